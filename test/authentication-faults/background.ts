import { setTimeout as sleep } from 'node:timers/promises'
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt'
import { until } from '#shared/testing/redis-server.ts'
import type { Connect } from '../conformance/packets.ts'
import type { RawClient } from '../conformance/raw-client.ts'
import { ScramExchange } from '../clients/scram.ts'
import { type FaultCluster, PATIENCE_MS } from './fault-cluster.ts'

const PACE_MS = 100
const FILTER = 'background/#'

/** A connected client, as far as this load needs it. */
interface Member {
  readonly name: string
  /** QoS 1; resolves with its acknowledgement. */
  publish(topic: string, payload: string): Promise<void>
  leave(): void
}

/**
 * Clients of every port that stay connected while authentication is broken around them: each publishes with QoS 1 and each has all of it to
 * come. What the broker owes them is everything that was acknowledged, and that it never closes a connection.
 */
export class Background {
  /** Connections that ended although nobody had asked for it. */
  readonly lost: string[] = []
  readonly #members: Member[] = []
  readonly #released = new Set<string>()
  readonly #received = new Map<string, Set<string>>()
  readonly #acknowledged: string[] = []
  #isOver = false
  #loops: Promise<void>[] = []

  static async start(cluster: FaultCluster): Promise<Background> {
    const background = new Background()
    const { ca, clientCert: cert, clientKey: key } = cluster.pki
    const named = { username: 'background', password: 'background' }
    await background.#addMqttJs('mqtt.js 5', `mqtt://127.0.0.1:${cluster.portOf('password')}`, { ...named, protocolVersion: 5 })
    await background.#addMqttJs('mqtt.js 3.1.1', `mqtt://127.0.0.1:${cluster.portOf('password')}`, { ...named, protocolVersion: 4 })
    await background.#addMqttJs('mqtt.js X509', `mqtts://127.0.0.1:${cluster.portOf('x509')}`, { ca, cert, key, protocolVersion: 5 })
    await background.#addRaw('raw SAT', await cluster.open('sat'), {
      properties: { authenticationMethod: 'K8S-SAT', authenticationData: Buffer.from(cluster.token()) },
    })
    await background.#addRaw('raw Custom', await cluster.open('custom'), { userName: 'background', password: 'any' })
    const scram = new ScramExchange('background', 'background')
    await background.#addRaw('raw Scram', await cluster.open('scram'), { properties: scram.first }, scram)
    background.#loops = background.#members.map(member => background.#publishOnAndOn(member))
    return background
  }

  /** Nobody was lost, and all that was acknowledged up to now has come to everybody; further messages are as well. */
  async check(): Promise<void> {
    const before = this.#acknowledged.length
    await until(() => this.#acknowledged.length >= before + this.#members.length || this.lost.length > 0, 'the load goes on', PATIENCE_MS)
    const owed = [...this.#acknowledged]
    await until(() => this.lost.length > 0 || this.#missing(owed).length === 0, 'what was acknowledged has come', PATIENCE_MS).catch(
      (error: unknown) => {
        throw new Error(`missing: ${this.#missing(owed).slice(0, 10).join(', ')}`, { cause: error })
      },
    )
    if (this.lost.length > 0) throw new Error(`lost: ${this.lost.join(', ')}`)
  }

  /** Nothing is owed to it from now on: the case is about its connection. */
  release(name: string): void {
    this.#released.add(name)
    this.#received.delete(name)
  }

  async stop(): Promise<void> {
    this.#isOver = true
    for (const member of this.#members) member.leave()
    await Promise.all(this.#loops)
  }

  #missing(owed: readonly string[]): string[] {
    return [...this.#received].flatMap(([name, received]) => owed.filter(each => !received.has(each)).map(each => `${each} to ${name}`))
  }

  #onLost(name: string, why: string): void {
    if (!this.#isOver && !this.#released.has(name)) this.lost.push(`${name}: ${why}`)
  }

  async #publishOnAndOn(member: Member): Promise<void> {
    for (let number = 0; !this.#isOver; number++) {
      const payload = `${member.name} ${number}`
      try {
        await member.publish(`background/${member.name.replaceAll(' ', '-')}`, payload)
      } catch (error) {
        this.#onLost(member.name, (error as Error).message)
        return
      }
      this.#acknowledged.push(payload)
      await sleep(PACE_MS)
    }
  }

  #inboxOf(name: string): Set<string> {
    const inbox = new Set<string>()
    this.#received.set(name, inbox)
    return inbox
  }

  async #addMqttJs(name: string, url: string, options: IClientOptions): Promise<void> {
    const client: MqttClient = await connectAsync(url, { reconnectPeriod: 0, ...options }, false)
    const inbox = this.#inboxOf(name)
    client.on('message', (_topic, payload) => void inbox.add(payload.toString()))
    client.on('close', () => this.#onLost(name, 'closed'))
    client.on('disconnect', ({ reasonCode }) => this.#onLost(name, `DISCONNECT 0x${reasonCode?.toString(16)}`))
    await client.subscribeAsync(FILTER, { qos: 1 })
    this.#members.push({
      name,
      publish: async (topic, payload) => void (await client.publishAsync(topic, payload, { qos: 1 })),
      leave: () => void client.end(true),
    })
  }

  async #addRaw(name: string, client: RawClient, connect: Connect, exchange?: ScramExchange): Promise<void> {
    client.sendConnect({ clientId: name, ...connect })
    if (exchange !== undefined) client.send(await exchange.challenged(client))
    const { reason } = await client.expect('connack')
    if (reason !== 0) throw new Error(`${name}: CONNACK 0x${reason.toString(16)}`)
    await client.subscribe({ filter: FILTER, qos: 1 })
    const inbox = this.#inboxOf(name)
    void this.#receiveOnAndOn(name, client, inbox)
    this.#members.push({
      name,
      publish: async (topic, payload) => {
        const ack = await client.publish({ topic, payload, qos: 1 })
        if (ack === null || ack.reason >= 0x80) throw new Error(`PUBACK 0x${ack?.reason.toString(16)}`)
      },
      leave: () => client.drop(),
    })
  }

  async #receiveOnAndOn(name: string, client: RawClient, inbox: Set<string>): Promise<void> {
    try {
      for (;;) inbox.add((await client.receive()).payload.toString())
    } catch (error) {
      this.#onLost(name, (error as Error).message)
    }
  }
}
