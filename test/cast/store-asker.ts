import { randomBytes } from 'node:crypto'
import { REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import * as packets from '../conformance/packets.ts'
import type { Properties } from '../conformance/properties.ts'
import type { RawClient } from '../conformance/raw-client.ts'

export interface StoreAnswer {
  readonly text: string
  /** `__ts`, if there is one. */
  readonly version: string | undefined
}

/** User Properties beside `__ts`; null for that: the request has none. */
export interface AskOptions {
  readonly ts?: string | null
  readonly more?: readonly (readonly [string, string])[]
}

/** A request's payload. */
export function payloadOf(...parts: readonly (string | Buffer)[]): Buffer {
  const blobs = parts.flatMap(part => {
    const bytes = Buffer.from(part)
    return [Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n')]
  })
  return Buffer.concat([Buffer.from(`*${parts.length}\r\n`), ...blobs])
}

export function clockOf(wallMs: number, node = 'tester'): string {
  return `${wallMs}:0:${node}`
}

/** Asks the state store over a connection byte by byte: as no client of ours would, if need be. */
export class StoreAsker {
  readonly client: RawClient
  readonly responseTopic: string

  private constructor(client: RawClient, responseTopic: string) {
    this.client = client
    this.responseTopic = responseTopic
  }

  static async of(client: RawClient): Promise<StoreAsker> {
    const responseTopic = `answers/${randomBytes(6).toString('hex')}`
    await client.subscribe({ filter: responseTopic, qos: 1 })
    return new StoreAsker(client, responseTopic)
  }

  /** The PUBLISH that asks. */
  packet(payload: Buffer, packetId: number, { ts = clockOf(Date.now()), more = [] }: AskOptions = {}): Buffer {
    const userProperty = [...(ts === null ? [] : [['__ts', ts] as const]), ...more].map(([name, value]): [string, string] => [name, value])
    const properties: Properties = {
      responseTopic: this.responseTopic,
      correlationData: Buffer.from(String(packetId)),
      ...(userProperty.length > 0 && { userProperty }),
    }
    return packets.publish({ topic: REQUEST_TOPIC, qos: 1, packetId, payload, properties })
  }

  /** The answer to `payload`, when PUBACK has come too. @throws PUBACK is not 0x00 */
  async ask(payload: Buffer, options?: AskOptions): Promise<StoreAnswer> {
    const packetId = this.client.nextPacketId()
    this.client.send(this.packet(payload, packetId, options))
    const { reason } = await this.client.take('puback', packetId)
    if (reason !== 0) throw new Error(`PUBACK 0x${reason.toString(16)}`)
    return this.answer()
  }

  /** The next answer; what else comes stays queued. */
  async answer(): Promise<StoreAnswer> {
    const { payload, properties } = await this.client.receive()
    return { text: payload.toString('latin1'), version: properties.userProperty?.find(([name]) => name === '__ts')?.[1] }
  }

  /** The text of the answer alone. */
  async say(...parts: readonly (string | Buffer)[]): Promise<string> {
    return (await this.ask(payloadOf(...parts))).text
  }
}
