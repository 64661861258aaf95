import { randomBytes } from 'node:crypto'
import { expect } from 'vitest'
import { REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import type { Publish } from '../conformance/decode.ts'
import * as packets from '../conformance/packets.ts'
import type { Properties } from '../conformance/properties.ts'
import { RawClient } from '../conformance/raw-client.ts'

export interface Address {
  readonly host: string
  readonly port: number
}

/** What came of a request. */
export interface Answer {
  /** One character for each byte. */
  readonly payload: string
  readonly ts: string | null
}

interface Notification extends Answer {
  readonly topic: string
  /** Of a watch that is kept: the version before it. */
  readonly previous?: string
}

/** A request that was sent. */
export interface Asked {
  readonly packetId: number
  readonly correlation: Buffer
}

const CORRELATION_BYTES = 16
/** A failover is among what it waits for. */
const PATIENCE_MS = 60_000

/** Speaks with the state store over one connection and looks at every byte that comes back; anything that nobody owes it is an error. */
export class StoreClient {
  readonly clientId: string
  readonly raw: RawClient
  readonly responseTopic: string
  readonly #notifications: Publish[] = []

  private constructor(clientId: string, raw: RawClient) {
    this.clientId = clientId
    this.raw = raw
    this.responseTopic = `clients/${clientId}/services/statestore/_any_/command/invoke/response`
  }

  /** Connected, and subscribed to its answers without its own messages, as some clients do. */
  static async open({ host, port }: Address, clientId: string, properties: Properties = {}): Promise<StoreClient> {
    const raw = await RawClient.open(host, port)
    raw.patienceMs = PATIENCE_MS
    await raw.connect({ clientId, properties })
    const client = new StoreClient(clientId, raw)
    const { reasons } = await raw.subscribe({ filter: client.responseTopic, qos: 1, noLocal: true })
    expect(reasons).toEqual([1])
    return client
  }

  /** One packet; `send` takes several, so that they travel together. */
  packet(request: string, userProperty: readonly [string, string][] = []): Asked & { readonly bytes: Buffer } {
    const [packetId, correlation] = [this.raw.nextPacketId(), randomBytes(CORRELATION_BYTES)]
    const properties: Properties = { responseTopic: this.responseTopic, correlationData: correlation, userProperty: [...userProperty] }
    const bytes = packets.publish({ topic: REQUEST_TOPIC, qos: 1, packetId, payload: Buffer.from(request, 'latin1'), properties })
    return { packetId, correlation, bytes }
  }

  send(...asked: readonly { readonly bytes: Buffer }[]): void {
    this.raw.send(...asked.map(({ bytes }) => bytes))
  }

  /** PUBACK 0x00 and the response. @throws it is not what the protocol says a response is */
  async answer({ packetId, correlation }: Asked): Promise<Answer> {
    const response = await this.#next(topic => topic === this.responseTopic)
    expect(response.properties.correlationData?.toString('hex'), 'Correlation Data').toBe(correlation.toString('hex'))
    const { userProperty = [], ...others } = response.properties
    expect(Object.keys(others)).toEqual(['correlationData'])
    const [status, ...rest] = userProperty
    expect(status).toEqual(['__stat', '200'])
    expect((await this.raw.take('puback', packetId)).reason).toBe(0)
    return this.#read(response, rest)
  }

  async ask(request: string, userProperty: readonly [string, string][] = []): Promise<Answer> {
    const asked = this.packet(request, userProperty)
    this.send(asked)
    return this.answer(asked)
  }

  /** The next notification, now or later. */
  async notification(): Promise<Notification> {
    const publish = this.#notifications.shift() ?? (await this.#next(() => false))
    const { userProperty = [], ...others } = publish.properties
    expect(others).toEqual({})
    const [ts, previous, ...rest] = userProperty
    expect(previous?.[0] ?? '__prev').toBe('__prev')
    return {
      topic: this.raw.topicOf(publish),
      ...this.#read(publish, [ts!, ...rest]),
      ...(previous !== undefined && { previous: previous[1] }),
    }
  }

  /** Nothing has come that nobody took, and the connection is open. */
  async expectNothing(): Promise<void> {
    await this.raw.expectNothing()
    expect(this.#notifications.map(each => each.payload.toString('latin1'))).toEqual([])
  }

  /** The next PUBLISH that is a response, acknowledged; what comes before it was for `notification`. Without responses the next of all. */
  async #next(isResponse: (topic: string) => boolean): Promise<Publish> {
    for (;;) {
      const publish = await this.raw.receive()
      expect([publish.qos, publish.retain, publish.dup]).toEqual([1, false, false])
      const topic = this.raw.topicOf(publish)
      if (isResponse(topic)) return publish
      if (topic === this.responseTopic) throw new Error(`a response that nobody waits for: ${publish.payload.toString('latin1')}`)
      if (!isResponse(this.responseTopic)) return publish
      this.#notifications.push(publish)
    }
  }

  #read({ payload }: Publish, userProperty: readonly [string, string][]): Answer {
    const [ts, ...others] = userProperty
    expect(others).toEqual([])
    if (ts !== undefined) expect(ts[0]).toBe('__ts')
    return { payload: payload.toString('latin1'), ts: ts?.[1] ?? null }
  }
}
