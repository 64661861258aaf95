import net from 'node:net'

/** What a replica sends to its primary. */
const REPLICATION = new Set(['replconf', 'psync', 'sync'])
/** Between two calls of `clientCommands` there is this one of our own: the first, which Redis counts when it has answered it. */
export const OWN_COMMANDS = 1
const TIMEOUT_MS = 5_000

/**
 * Commands that the clients of the Redis on 127.0.0.1:port have sent since it started, replication left out.
 * @throws {Error} it does not answer
 */
export async function clientCommands(port: number): Promise<number> {
  return clientCommandsOf(await redisInfo(port, 'commandstats'))
}

/** Text of `INFO commandstats`: `cmdstat_xadd:calls=7,usec=…`. Commands within a transaction or a script count one by one. */
export function clientCommandsOf(text: string): number {
  let sum = 0
  for (const [, name = '', calls = '0'] of text.matchAll(/^cmdstat_([^:|]+)[^:]*:calls=(\d+)/gm))
    if (!REPLICATION.has(name)) sum += Number(calls)
  return sum
}

/** A section of INFO. @throws {Error} nothing, or something else, is at the port */
export function redisInfo(port: number, section: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: '127.0.0.1', port })
    socket.setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`no answer from Redis on port ${port}`)))
    socket.setEncoding('latin1')
    let text = ''
    socket.once('error', reject)
    socket.once('close', () => reject(new Error(`Redis on port ${port} closed the connection`)))
    socket.once('connect', () => socket.write(`INFO ${section}\r\n`))
    socket.on('data', chunk => {
      text += String(chunk)
      const head = /^\$(\d+)\r\n/.exec(text)
      if (head && text.length >= head[0].length + Number(head[1])) {
        resolve(text.slice(head[0].length))
        socket.destroy()
      } else if (!head && text.includes('\r\n')) {
        reject(new Error(`Redis on port ${port}: ${text.trim()}`))
        socket.destroy()
      }
    })
  })
}
