import { rmSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import type { Engine } from './engine.ts'
import { readU32, writeU32 } from './message.ts'

/** Publisher and ticket, both u32. */
const RECORD_BYTES = 8
const OUT_BYTES_START = 4_096

/**
 * Tells a publisher's process that its message has arrived at clients of this process. Records go straight from process
 * to process (Unix sockets), one write per turn. Only scenarios whose messages cross processes use it.
 */
export class LinkMesh {
  readonly #engine: Engine
  readonly #index: number
  readonly #directory: string
  readonly #outs: { socket: net.Socket; buffer: Buffer; bytes: number }[] = []
  readonly #server: net.Server
  readonly #ins = new Set<net.Socket>()

  private constructor(engine: Engine, directory: string, index: number, onArrived: (publisherId: number, ticket: number) => void) {
    this.#engine = engine
    this.#index = index
    this.#directory = directory
    this.#server = net.createServer(socket => {
      this.#ins.add(socket)
      socket.on('error', () => socket.destroy())
      socket.on('data', recordReader(onArrived))
    })
    engine.onTurn('after', () => this.#flush())
  }

  /** Listens; `join` connects once all processes listen. */
  static async listen(
    engine: Engine,
    place: { readonly directory: string; readonly index: number },
    onArrived: (publisherId: number, ticket: number) => void,
  ): Promise<LinkMesh> {
    const mesh = new LinkMesh(engine, place.directory, place.index, onArrived)
    await new Promise<void>((resolve, reject) => {
      mesh.#server.on('error', reject)
      mesh.#server.listen(socketPath(place.directory, place.index), resolve)
    })
    return mesh
  }

  async join(processes: number): Promise<void> {
    for (let index = 0; index < processes; index++) {
      const socket = net.connect(socketPath(this.#directory, index))
      await new Promise<void>((resolve, reject) => socket.on('connect', resolve).on('error', reject))
      this.#outs.push({ socket, buffer: Buffer.allocUnsafeSlow(OUT_BYTES_START), bytes: 0 })
    }
  }

  /** @param to index of the process that owns the publisher */
  send(to: number, publisherId: number, ticket: number): void {
    const out = this.#outs[to]!
    if (out.bytes + RECORD_BYTES > out.buffer.length) {
      const larger = Buffer.allocUnsafeSlow(out.buffer.length * 2)
      larger.set(out.buffer.subarray(0, out.bytes))
      out.buffer = larger
    }
    writeU32(out.buffer, out.bytes, publisherId)
    writeU32(out.buffer, out.bytes + 4, ticket)
    out.bytes += RECORD_BYTES
    this.#engine.requestTurn()
  }

  #flush(): void {
    for (const out of this.#outs) {
      if (out.bytes === 0) continue
      out.socket.write(out.buffer.subarray(0, out.bytes))
      out.bytes = 0
      if (out.socket.writableLength > 0) out.buffer = Buffer.allocUnsafeSlow(OUT_BYTES_START)
    }
  }

  close(): void {
    for (const { socket } of this.#outs) socket.destroy()
    for (const socket of this.#ins) socket.destroy()
    this.#server.close()
    rmSync(socketPath(this.#directory, this.#index), { force: true })
  }
}

function socketPath(directory: string, index: number): string {
  return path.join(directory, `${index}.sock`)
}

function recordReader(onArrived: (publisherId: number, ticket: number) => void): (chunk: Buffer) => void {
  let tail: Buffer = Buffer.alloc(0)
  return chunk => {
    const bytes = tail.length > 0 ? Buffer.concat([tail, chunk]) : chunk
    let at = 0
    for (; at + RECORD_BYTES <= bytes.length; at += RECORD_BYTES) onArrived(readU32(bytes, at), readU32(bytes, at + 4))
    tail = Buffer.from(bytes.subarray(at))
  }
}
