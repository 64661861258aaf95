import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { sleep } from '../monotonic.ts'
import { treePids } from '../usage.ts'

const START_TIMEOUT_MS = 30_000
const STOP_TIMEOUT_MS = 10_000
const LOOK_INTERVAL_MS = 50
/** The end of what a broker wrote, shown when it does not start. */
const LOG_CHARS_MAX = 2_000

/** A broker that the benchmark can start. */
export interface Peer {
  readonly name: string
  /** Scenarios that it has no support for. */
  readonly lacks: readonly string[]
  /** It takes part in so many rounds at most. */
  readonly roundsMax: number
  /** Why it cannot be started on this machine, or null. */
  missing(): string | null
  /** Program and arguments for a broker on 127.0.0.1:port whose files are in `directory`. */
  command(given: { readonly port: number; readonly directory: string; readonly durable: boolean }): Promise<readonly string[]>
}

/** A broker process of the benchmark's own. */
export interface RunningBroker {
  readonly name: string
  readonly port: number
  readonly pid: number
  /** Ends the process and all that descend from it, and removes its files. */
  stop(): Promise<void>
}

/** @throws {Error} it did not accept connections in time; what it wrote is in the message */
export async function startBroker(peer: Peer, durable: boolean): Promise<RunningBroker> {
  const directory = mkdtempSync(path.join(tmpdir(), `bench-${peer.name.toLowerCase()}-`))
  const port = await freePort()
  const [program, ...parameters] = await peer.command({ port, directory, durable })
  const child = spawn(program!, parameters, { stdio: ['ignore', 'pipe', 'pipe'], cwd: directory })
  let log = ''
  const keep = (chunk: Buffer): void => {
    log = (log + chunk.toString()).slice(-LOG_CHARS_MAX)
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  child.on('error', error => keep(Buffer.from(error.message)))
  const killAtExit = (): void => void child.kill('SIGKILL')
  process.on('exit', killAtExit)
  const stop = async (): Promise<void> => {
    await endTree(child)
    process.off('exit', killAtExit)
    rmSync(directory, { recursive: true, force: true })
  }
  for (let waitedMs = 0; !(await accepts(port)); waitedMs += LOOK_INTERVAL_MS) {
    if (waitedMs < START_TIMEOUT_MS && child.exitCode === null && child.pid !== undefined) await sleep(LOOK_INTERVAL_MS)
    else {
      await stop()
      throw new Error(`${peer.name} did not start: ${log.trim()}`)
    }
  }
  return { name: peer.name, port, pid: child.pid!, stop }
}

async function endTree(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const pids = treePids([child.pid])
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()))
  child.kill('SIGTERM')
  const deadline = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
  await exited
  clearTimeout(deadline)
  for (const pid of treePids(pids)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // ended by itself meanwhile
    }
  }
}

export async function freePort(): Promise<number> {
  const server = net.createServer()
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise<void>(resolve => server.close(() => resolve()))
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

function accepts(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = net.connect({ host: '127.0.0.1', port })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
