import { SocketTransport } from './socket-transport.ts'
import type { Port, Stage } from './socket-listener.ts'

/** Last stage of an MQTT port without TLS. */
export function tcpStage(port: Port): Stage {
  return (socket, arrival) => {
    new SocketTransport(socket, arrival.settle('tcp', null), arrival, port.timers).introduce(port.onTransport)
  }
}
