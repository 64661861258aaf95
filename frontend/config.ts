import type { BrokerLimits } from '#shared/config/broker-settings.ts'

/** What a frontend needs of the broker's settings; meaning, unit, default and reaction stand with their declaration. */
export type FrontendSettings = Pick<
  BrokerLimits,
  | 'connectionsMax'
  | 'unauthenticatedConnectionsMax'
  | 'unauthenticatedPerAddressMax'
  | 'unauthenticatedBytesPerConnection'
  | 'unauthenticatedBytesTotal'
  | 'connectDeadlineMs'
  | 'serverKeepAliveSeconds'
  | 'writeBufferBytesMax'
  | 'packetBytesMax'
  | 'topicLevelsMax'
  | 'filtersPerPacketMax'
  | 'userPropertiesPerPacketMax'
  | 'receiveMaximum'
  | 'inflightMax'
  | 'topicAliasMaximum'
  | 'topicAliasesOutMax'
  | 'maxSessionExpirySeconds'
  | 'retainedMessagesMax'
  | 'responseInformation'
  | 'serverReference'
  | 'compatibility'
>
