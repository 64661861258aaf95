import { Categories } from './categories.ts'

/** What a frontend counts: plain numbers, read by the metrics page. */
export class FrontendCounters {
  connectionsOpen = 0
  connectionsTotal = 0
  connectionsRefused = 0
  bytesReceived = 0
  bytesSent = 0
  readonly categories = new Categories()
  /** Connections that lived longer than their credential. */
  credentialsExpired = 0
  /** Connections ended because the rules of their port have changed, or what it trusts. */
  endedByChange = 0
  /** Requests to the state store that no answer can be given to. */
  storeRequestsDropped = 0
  protocolErrors = 0
  keepAliveTimeouts = 0
  /** QoS 0 messages to a socket that does not take them. */
  qos0DroppedOutgoing = 0
  /** Messages larger than the client's Maximum Packet Size [MQTT-3.1.2-25]. */
  tooLargeDropped = 0
}
