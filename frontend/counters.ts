/** What a frontend counts: plain numbers, read by the metrics page. */
export class FrontendCounters {
  connectionsOpen = 0
  connectionsTotal = 0
  connectionsRefused = 0
  bytesReceived = 0
  bytesSent = 0
  authenticationSuccesses = 0
  authenticationDenied = 0
  authorizationDenied = 0
  protocolErrors = 0
  keepAliveTimeouts = 0
  /** QoS 0 messages to a socket that does not take them. */
  qos0DroppedOutgoing = 0
  /** Messages larger than the client's Maximum Packet Size [MQTT-3.1.2-25]. */
  tooLargeDropped = 0
}
