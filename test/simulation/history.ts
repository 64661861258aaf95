import { hash32 } from '#shared/base/hash.ts'
import type { Action, Result } from '../linearizability/history.ts'
import type { World } from './world.ts'

export type Qos = 0 | 1 | 2

/** What a client asks the state store for. `under`: the key is a prefix, and these are all keys that begin so. */
export type StoreAction =
  | Action
  | { readonly is: 'watch' | 'unwatch'; readonly under?: readonly string[] }
  /** Watches a key over connections; `since`: the last version that the client knows of. */
  | { readonly is: 'keep'; readonly keepMs: number; readonly since: string | null }

/** What clients did and saw, and what happened to the cluster. `message` is the payload, which is unique to one publish. */
export type Happening =
  /** CONNECT went out. `isClean`: Clean Start. `isPersistent`: the session is to outlive the connection for longer than the run. */
  | { readonly is: 'connect'; readonly client: string; readonly isClean: boolean; readonly isPersistent: boolean; readonly to: string }
  | { readonly is: 'connack'; readonly client: string; readonly isPresent: boolean }
  | { readonly is: 'refused'; readonly client: string; readonly reason: number }
  /** The client's connection is gone. */
  | { readonly is: 'closed'; readonly client: string; readonly how: 'disconnected' | 'cut' | 'byServer'; readonly reason: number }
  | { readonly is: 'subscribe'; readonly client: string; readonly filter: string; readonly qos: Qos; readonly noLocal: boolean }
  /** `granted` is a QoS, or a failure from 0x80. */
  | { readonly is: 'suback'; readonly client: string; readonly filter: string; readonly granted: number }
  | { readonly is: 'unsubscribe'; readonly client: string; readonly filter: string }
  | { readonly is: 'unsuback'; readonly client: string; readonly filter: string }
  | {
      readonly is: 'publish'
      readonly client: string
      readonly message: string
      readonly topic: string
      readonly qos: Qos
      readonly retain: boolean
      /** Sent before, on an older connection. */
      readonly isRepeat: boolean
    }
  /** PUBACK or PUBREC. */
  | { readonly is: 'acknowledged'; readonly client: string; readonly message: string; readonly reason: number }
  /** It will not be sent again: the client has lost its session, and a QoS 2 message must not be sent as a new one. */
  | { readonly is: 'abandoned'; readonly client: string; readonly message: string }
  | {
      readonly is: 'received'
      readonly client: string
      readonly message: string
      readonly topic: string
      readonly qos: Qos
      /** RETAIN: it was kept, and comes because of a SUBSCRIBE. */
      readonly retain: boolean
      readonly dup: boolean
      /** QoS 2: its Packet Identifier has been received and not released: the application does not get it again. */
      readonly isRepeat: boolean
    }
  /** `request` is unique to one request. */
  | { readonly is: 'storeAsked'; readonly client: string; readonly request: string; readonly key: string; readonly action: StoreAction }
  /** On this connection or on a later one. */
  | { readonly is: 'storeAnswered'; readonly client: string; readonly request: string; readonly result: Result }
  /** PUBACK with a failure: no answer will come. */
  | { readonly is: 'storeRefused'; readonly client: string; readonly request: string; readonly reason: number }
  /** `value` null: the key was deleted, or its time was over. */
  | { readonly is: 'notified'; readonly client: string; readonly key: string; readonly version: string; readonly value: string | null }
  /** A watch that is kept begins, with what comes after that version. */
  | { readonly is: 'keptFrom'; readonly client: string; readonly key: string; readonly version: string }
  /** It goes on without a gap. */
  | { readonly is: 'keptOn'; readonly client: string; readonly key: string; readonly missed: number }
  /** As 'notified', of such a watch, without what the client knew before. */
  | { readonly is: 'keptTold'; readonly client: string; readonly key: string; readonly version: string; readonly value: string | null }
  /** What the broker holds for a topic when all is over. */
  | { readonly is: 'retained'; readonly topic: string; readonly message: string | null }
  /** A backend says that it owns a shard. */
  | { readonly is: 'owned'; readonly process: string; readonly shard: number; readonly epoch: number }
  /** `kind` 'note': no fault, but worth to be known. */
  | { readonly is: 'fault'; readonly kind: string; readonly what: string }
  /** What was acknowledged since then may be lost, by the durability level's own rules (docs/durability.md). */
  | { readonly is: 'mayForget'; readonly sinceMs: number; readonly what: string }
  /** A client saw what no server may send. */
  | { readonly is: 'wrong'; readonly client: string; readonly what: string }
  /** At the end of the quiet phase the client still waits for something. */
  | { readonly is: 'stuck'; readonly client: string; readonly what: string }

export type HistoryEvent = Happening & { readonly ms: number }

/** Everything that happened in one run, in order. */
export class History {
  readonly events: HistoryEvent[] = []
  readonly #world: World

  constructor(world: World) {
    this.#world = world
  }

  add(happening: Happening): void {
    this.events.push({ ...happening, ms: this.#world.nowMs })
  }

  /** The same for two runs only when they are the same to the last event and its time. */
  get hash(): number {
    let hash = 0
    for (const event of this.events) hash = hash32(JSON.stringify(event), hash)
    return hash
  }

  /** One line for each event that says something about `words`; all with none. */
  lines(words: readonly string[] = []): string[] {
    return this.events.map(lineOf).filter(line => words.length === 0 || words.some(word => line.includes(word)))
  }
}

function lineOf({ ms, is, ...rest }: HistoryEvent): string {
  const fields = Object.entries(rest).flatMap(([name, value]) =>
    value === false ? [] : [value === true ? name : `${name}=${typeof value === 'object' ? JSON.stringify(value) : String(value)}`],
  )
  return `${ms.toFixed(1).padStart(9)} ${is.padEnd(12)} ${fields.join(' ')}`
}
