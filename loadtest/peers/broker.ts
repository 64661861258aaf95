import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { BrokerPart, LoadOptions } from '../options.ts'
import { accepts, freePort, ServerProcess } from './server-process.ts'

/** A broker that the benchmark can start. */
export interface Peer {
  readonly name: string
  /** Scenarios that it has no support for. */
  readonly lacks: readonly string[]
  /** It takes part in so many rounds at most. */
  readonly roundsMax: number
  /** Why it cannot be started on this machine, or null. */
  missing(): string | null
  /** @throws {Error} it did not accept connections in time; what it wrote is in the message */
  start(durable: boolean): Promise<RunningBroker>
}

/** A broker of the benchmark's own, of one or several processes. */
export interface RunningBroker {
  readonly name: string
  readonly port: number
  readonly parts: readonly BrokerPart[]
  /** Port of the Redis that keeps its state, if there is one. */
  readonly redisPort: number | null
  /** What else a load must be told of this broker: TLS, user name, where its figures are. */
  readonly set?: Partial<LoadOptions>
  /** Ends its processes and all that descend from them, and removes its files. */
  stop(): Promise<void>
}

/** A peer that is a single process. */
export interface ProcessPeer extends Omit<Peer, 'start'> {
  /** Program and arguments for a broker on 127.0.0.1:port whose files are in `directory`. */
  command(given: { readonly port: number; readonly directory: string; readonly durable: boolean }): Promise<readonly string[]>
}

export function processPeer(peer: ProcessPeer): Peer {
  const { name, lacks, roundsMax } = peer
  return { name, lacks, roundsMax, missing: () => peer.missing(), start: durable => startProcess(peer, durable) }
}

async function startProcess(peer: ProcessPeer, durable: boolean): Promise<RunningBroker> {
  const directory = temporaryDirectory(peer.name)
  const port = await freePort()
  const command = await peer.command({ port, directory, durable })
  const server = new ServerProcess({ name: peer.name, command, directory, isReady: () => accepts(port) })
  const stop = async (): Promise<void> => {
    await server.stop()
    rmSync(directory, { recursive: true, force: true })
  }
  try {
    await server.ready()
  } catch (error) {
    await stop()
    throw error
  }
  return { name: peer.name, port, parts: [{ name: 'broker', pids: [server.pid] }], redisPort: null, stop }
}

export function temporaryDirectory(name: string): string {
  return mkdtempSync(path.join(tmpdir(), `bench-${name.toLowerCase()}-`))
}
