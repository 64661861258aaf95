/**
 * `node bare-tls-server.ts PORT DIRECTORY`: the least that a server with client certificates can do, as the measure of what a connect costs.
 * It asks for a certificate and judges it as node:tls does, reads a few bytes, answers as an MQTT broker would, and closes.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import tls from 'node:tls'

const CONNACK = Buffer.of(0x20, 2, 0, 0)
const directory = process.argv[3]!
const read = (file: string): Buffer => readFileSync(path.join(directory, file))

const server = tls.createServer(
  {
    cert: read('server.crt'),
    key: read('server.key'),
    ca: read('ca.crt'),
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2',
  },
  socket => {
    socket.once('data', () => socket.end(CONNACK))
    socket.on('error', () => socket.destroy())
  },
)
server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4_096 })
process.on('SIGTERM', () => process.exit(0))
