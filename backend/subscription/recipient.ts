/** What a client asked for with one Topic Filter (§3.8.3.1). */
export interface SubscriptionOptions {
  readonly qos: 0 | 1 | 2
  readonly noLocal: boolean
  readonly retainAsPublished: boolean
  /** Subscription Identifier, 0 for none (§3.8.2.1.2). */
  readonly identifier: number
}

/** One who gets a message, with the options of all its matching subscriptions merged: one copy per message (§3.3.4). */
export class Recipient<S> {
  readonly subscriber: S
  /** The highest of the matching subscriptions [MQTT-3.3.4-2]. */
  readonly qos: number
  /** One of the matching subscriptions asks for it. */
  readonly retainAsPublished: boolean
  /** Of all matching subscriptions, equal ones repeated [MQTT-3.3.4-4], [MQTT-3.3.4-5]; ascending. `null`: none has one. */
  readonly identifiers: readonly number[] | null
  /**
   * What applies when the publisher is this subscriber itself (No Local, [MQTT-3.8.3-3]): this recipient when none of the matching
   * subscriptions is No Local, another when some are, `null` when all are.
   */
  readonly own: Recipient<S> | null

  /** @param own `'same'`: the publisher's own messages are treated like all others */
  constructor(
    subscriber: S,
    qos: number,
    retainAsPublished: boolean,
    identifiers: readonly number[] | null,
    own: Recipient<S> | null | 'same',
  ) {
    this.subscriber = subscriber
    this.qos = qos
    this.retainAsPublished = retainAsPublished
    this.identifiers = identifiers
    this.own = own === 'same' ? this : own
  }
}

/** `SubscriptionOptions` in 32 bits, because an index holds a million of them: identifier, Retain As Published, No Local, QoS. */
export type PackedOptions = number

const QOS_BITS = 0b0011
const NO_LOCAL = 0b0100
const RETAIN_AS_PUBLISHED = 0b1000
const IDENTIFIER_SHIFT = 4

/** A Subscription Identifier has at most 28 bits (§3.8.2.1.2), so all fits, as a signed integer. */
export function packOptions(options: SubscriptionOptions): PackedOptions {
  const flags = options.qos | (options.noLocal ? NO_LOCAL : 0) | (options.retainAsPublished ? RETAIN_AS_PUBLISHED : 0)
  return (options.identifier << IDENTIFIER_SHIFT) | flags
}

/** The recipient for a subscriber with one matching subscription. */
export function recipientOf<S>(subscriber: S, packed: PackedOptions): Recipient<S> {
  const identifier = packed >>> IDENTIFIER_SHIFT
  return new Recipient(
    subscriber,
    packed & QOS_BITS,
    (packed & RETAIN_AS_PUBLISHED) !== 0,
    identifier === 0 ? null : [identifier],
    (packed & NO_LOCAL) === 0 ? 'same' : null,
  )
}

/** The recipient for a subscriber with several matching subscriptions. */
export function mergedRecipient<S>(subscriber: S, packed: readonly PackedOptions[]): Recipient<S> {
  const others = packed.filter(options => (options & NO_LOCAL) === 0)
  if (others.length === packed.length) return merge(subscriber, packed, 'same')
  return merge(subscriber, packed, others.length === 0 ? null : merge(subscriber, others, 'same'))
}

function merge<S>(subscriber: S, packed: readonly PackedOptions[], own: Recipient<S> | null | 'same'): Recipient<S> {
  let qos = 0
  let retainAsPublished = false
  const identifiers: number[] = []
  for (const options of packed) {
    qos = Math.max(qos, options & QOS_BITS)
    retainAsPublished ||= (options & RETAIN_AS_PUBLISHED) !== 0
    if (options >>> IDENTIFIER_SHIFT !== 0) identifiers.push(options >>> IDENTIFIER_SHIFT)
  }
  identifiers.sort((a, b) => a - b)
  return new Recipient(subscriber, qos, retainAsPublished, identifiers.length === 0 ? null : identifiers, own)
}
