import type { ConnackProperties } from '#shared/mqtt/connack-codec.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import type { FrontendSettings } from './config.ts'

/** What this broker offers of MQTT: the whole, or less by configuration (docs/mqtt.md, retainedMessagesMax). Announced in CONNACK, and held to. */
export interface Features {
  readonly maximumQoS: 1 | 2
  readonly hasRetain: boolean
  readonly hasSubscriptionIdentifiers: boolean
  /** Topic Aliases that a client may use towards us, and those that we use towards one client at most. */
  readonly topicAliasMaximum: number
  readonly topicAliasesOutMax: number
}

export function featuresOf(settings: FrontendSettings): Features {
  const isWhole = settings.compatibility === 'None'
  return {
    maximumQoS: isWhole ? 2 : 1,
    hasRetain: settings.retainedMessagesMax > 0,
    hasSubscriptionIdentifiers: isWhole,
    topicAliasMaximum: isWhole ? settings.topicAliasMaximum : 0,
    topicAliasesOutMax: isWhole ? settings.topicAliasesOutMax : 0,
  }
}

/** As CONNACK says it (§3.2.2.3): what is there is the default and not sent. */
export function announced(features: Features): ConnackProperties {
  return {
    topicAliasMaximum: features.topicAliasMaximum,
    maximumQoS: features.maximumQoS === 1 ? 1 : undefined,
    retainAvailable: features.hasRetain ? undefined : false,
    subscriptionIdentifiersAvailable: features.hasSubscriptionIdentifiers ? undefined : false,
  }
}

/**
 * A PUBLISH or a Will that uses what is not there.
 * @throws {ProtocolError} QoSNotSupported [MQTT-3.2.2-11], [MQTT-3.2.2-12]; RetainNotSupported [MQTT-3.2.2-13], [MQTT-3.2.2-14]
 */
export function checkOffered(features: Features, qos: number, retain: boolean): void {
  if (qos > features.maximumQoS) throw new ProtocolError(ReasonCode.QoSNotSupported, 'MQTT-3.2.2-11', `QoS ${qos}`)
  if (retain && !features.hasRetain) throw new ProtocolError(ReasonCode.RetainNotSupported, 'MQTT-3.2.2-14', 'RETAIN')
}
