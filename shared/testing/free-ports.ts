import { createServer } from 'node:net'

/** Below the ports that systems give to outgoing connections and to those who ask for any (Linux: from 32768): none of those takes them meanwhile. */
const FIRST = 10_240
const COUNT = 22_400
/** Ports between the beginnings of two processes. */
const SHARE = 64

/** Processes that run at the same time begin apart from each other, and each goes on from port to port. */
let next = (process.pid * SHARE) % COUNT

/** Ports of 127.0.0.1 that nothing listens on at this moment, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = []
  for (let tried = 0; ports.length < count; tried++) {
    if (tried === COUNT) throw new Error(`of ports ${FIRST} to ${FIRST + COUNT - 1} fewer than ${count} are free`)
    const port = FIRST + next
    next = (next + 1) % COUNT
    if (await isFree(port)) ports.push(port)
  }
  return ports
}

/** One such port. */
export async function freePort(): Promise<number> {
  const [port] = await freePorts(1)
  return port!
}

function isFree(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
