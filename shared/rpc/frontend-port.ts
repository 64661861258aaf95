import type { Message } from '#shared/mqtt/message.ts'
import type { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { ConnectionId } from './backend-port.ts'
import type { Recipients } from './recipients.ts'

/** What a backend may ask of a frontend. Calls about a connection that is gone are ignored. */
export interface FrontendPort {
  /** One message for many connections. `message` is valid only during the call, as is `recipients`. */
  deliver(message: Message, recipients: Recipients): void
  /** Answer to `publish` (PUBACK, PUBREC) or `release` (PUBCOMP). */
  acknowledged(connection: ConnectionId, ticket: number, reason: ReasonCode): void
  /** Answer to `subscribe` and `unsubscribe`: one reason for each filter, in order. */
  subscribed(connection: ConnectionId, ticket: number, reasons: readonly ReasonCode[]): void
  /** PUBREL may be sent: Success, the PUBREC is stored (§4.3.3); PacketIdentifierNotFound, it was for no message of ours. */
  released(connection: ConnectionId, packetId: number, reason: ReasonCode): void
  /** Publishes are refused for lack of memory (true) or taken again (false): stop reading those who cannot be told so. */
  pressure(isFull: boolean): void
  /** The connection must go: taken over, or the backend cannot serve it any more. */
  disconnect(connection: ConnectionId, reason: ReasonCode, detail: string): void
}
