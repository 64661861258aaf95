import type { Publication } from './ledger.ts'
import type { ClientOptions } from './client.ts'
import type { Subscription } from '../conformance/packets.ts'

/** Topics: `load/<publisher>/<0…2>`, `jobs/<publisher>` (for the shared group), `churn/<churner>/<publisher>`, `kept/<writer>/<0…3>`, `will/<client>`. */

/** How a subscriber behaves while there is load. */
export type Presence =
  /** Stays. */
  | 'steady'
  /** Loses its connection now and then and comes back at once, so that the old one is taken over. */
  | 'dropping'
  /** Comes and goes. */
  | 'intermittent'
  /** Comes for the check at the end of a round. */
  | 'absent'
  /** Comes for the check of every fourth round. */
  | 'hibernating'

export interface SubscriberPart {
  readonly options: ClientOptions
  readonly subscriptions: readonly Subscription[]
  readonly presence: Presence
  /** Slowest acknowledgement; each waits a random part of it. */
  readonly ackDelayMaxMs: number
  readonly wants: (publication: Publication) => boolean
}

export interface PublisherPart {
  readonly options: ClientOptions
  readonly qos: readonly (1 | 2)[]
  readonly inflightMax: number
  readonly payloadBytesMax: number
}

export const publishers: readonly PublisherPart[] = [
  { options: { clientId: 'p0', version: 5, isPersistent: true }, qos: [1, 2], inflightMax: 20, payloadBytesMax: 2_000 },
  { options: { clientId: 'p1', version: 4, isPersistent: true }, qos: [2], inflightMax: 10, payloadBytesMax: 200 },
  { options: { clientId: 'p2', version: 5, isPersistent: true }, qos: [1, 2], inflightMax: 5, payloadBytesMax: 20_000 },
  { options: { clientId: 'p3', version: 4, isPersistent: false }, qos: [1], inflightMax: 20, payloadBytesMax: 500 },
]

export const GROUP = '$share/workers/jobs/#'
export const CHURNERS = ['c0', 'c1'] as const

const isLoad = ({ topic }: Publication): boolean => topic.startsWith('load/')

export const subscribers: readonly SubscriberPart[] = [
  {
    options: { clientId: 's0', version: 5, isPersistent: true },
    subscriptions: [{ filter: 'load/#', qos: 2 }],
    presence: 'steady',
    ackDelayMaxMs: 0,
    wants: isLoad,
  },
  {
    options: { clientId: 's1', version: 4, isPersistent: true },
    subscriptions: [{ filter: 'load/#', qos: 2 }],
    presence: 'dropping',
    ackDelayMaxMs: 0,
    wants: isLoad,
  },
  {
    options: { clientId: 's2', version: 5, isPersistent: true, receiveMaximum: 1 },
    subscriptions: [{ filter: 'load/+/0', qos: 1 }],
    presence: 'steady',
    ackDelayMaxMs: 0,
    wants: ({ topic }) => /^load\/\w+\/0$/.test(topic),
  },
  {
    options: { clientId: 's3', version: 5, isPersistent: true, receiveMaximum: 3 },
    subscriptions: [
      { filter: 'load/+/1', qos: 2 },
      { filter: 'load/+/2', qos: 2 },
    ],
    presence: 'dropping',
    ackDelayMaxMs: 20,
    wants: ({ topic }) => /^load\/\w+\/[12]$/.test(topic),
  },
  {
    options: { clientId: 's4', version: 4, isPersistent: true },
    subscriptions: [{ filter: 'load/p0/#', qos: 1 }],
    presence: 'intermittent',
    ackDelayMaxMs: 5,
    wants: ({ topic }) => topic.startsWith('load/p0/'),
  },
  {
    options: { clientId: 's5', version: 5, isPersistent: true, receiveMaximum: 5 },
    subscriptions: [{ filter: 'load/p1/#', qos: 2 }],
    presence: 'hibernating',
    ackDelayMaxMs: 0,
    wants: ({ topic }) => topic.startsWith('load/p1/'),
  },
  {
    options: { clientId: 's6', version: 5, isPersistent: true, receiveMaximum: 20, topicAliasMaximum: 8 },
    subscriptions: [{ filter: 'load/#', qos: 1 }],
    presence: 'absent',
    ackDelayMaxMs: 0,
    wants: isLoad,
  },
  {
    options: { clientId: 's7', version: 5, isPersistent: true, receiveMaximum: 10 },
    subscriptions: [{ filter: 'load/p2/#', qos: 2 }],
    presence: 'intermittent',
    ackDelayMaxMs: 10,
    wants: ({ topic }) => topic.startsWith('load/p2/'),
  },
]

export const workers: readonly SubscriberPart[] = [
  {
    options: { clientId: 'g0', version: 5, isPersistent: true, receiveMaximum: 4 },
    subscriptions: [{ filter: GROUP, qos: 2 }],
    presence: 'steady',
    ackDelayMaxMs: 0,
    wants: () => false,
  },
  {
    options: { clientId: 'g1', version: 4, isPersistent: true },
    subscriptions: [{ filter: GROUP, qos: 2 }],
    presence: 'dropping',
    ackDelayMaxMs: 5,
    wants: () => false,
  },
  {
    options: { clientId: 'g2', version: 5, isPersistent: true, receiveMaximum: 2 },
    subscriptions: [{ filter: GROUP, qos: 2 }],
    presence: 'intermittent',
    ackDelayMaxMs: 20,
    wants: () => false,
  },
]
