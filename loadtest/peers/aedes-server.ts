/** Aedes as a process of its own: `node aedes-server.ts PORT`. */
import net from 'node:net'
import { Aedes } from 'aedes'

const broker = await Aedes.createBroker()
const server = net.createServer({ noDelay: true }, broker.handle)
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4_096 })
process.on('SIGTERM', () => process.exit(0))
