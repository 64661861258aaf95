import { expect, test } from 'vitest'
import { encodeAuth } from '#shared/mqtt/auth-codec.ts'
import { newMessage } from '#shared/mqtt/message.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { type Permit, readPermit } from '#shared/authorization/permit.ts'
import { ByteReader } from '#shared/base/byte-reader.ts'
import type { AuthorizationVerdict, RecheckVerdict, Verdict } from '#shared/rpc/authentication.ts'
import { Recipients } from '#shared/rpc/recipients.ts'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { type FakeClient, permitOf, publishPacket, rulesOf, Surroundings } from '../surroundings.contract.ts'

const METHOD = 'STEPS'
/** The version at the start allows all of them. */
const FIRST = 15
const TOPICS = ['t/0', 't/1', 't/2', 't/3']

/** Every version allows other topics, to publish and to receive. */
function permitOfVersion(version: number): Permit {
  const topics = TOPICS.filter((_, index) => (version >> index) % 2 === 1)
  return permitOf(topics, topics)
}

const isAllowed = (version: number, topic: string): boolean => (version >> TOPICS.indexOf(topic)) % 2 === 1

/** One run: rules change, services answer late or cannot, clients do what they do. */
class Run {
  readonly #random: SeededRandom
  readonly #world = new Surroundings({ serverKeepAliveSeconds: 0, receiveMaximum: 1_000 })
  readonly #waiting: (() => void)[] = []
  readonly #clients: FakeClient[] = []
  readonly #reauthenticating = new Set<FakeClient>()
  #authentication = 1
  #authorization = FIRST
  /** The rights that the backend goes by. */
  readonly #stored = new Map<number, Permit>()
  readonly #stores = new Map<number, (() => void)[]>()
  #packetId = 0
  published = 0
  received = 0

  constructor(seed: number) {
    this.#random = new SeededRandom(seed)
    this.#world.port.rules = rulesOf('1', `${FIRST}`)
    const { authentication, backend } = this.#world
    authentication.verdict = ({ policy }) => this.#later<Verdict>(() => this.#accepted(Number(policy.authorizations[0]!.version)))
    authentication.authorization = ({ authorizations }) =>
      this.#later<AuthorizationVerdict>(() => authentication.allowed(permitOfVersion(Number(authorizations[0]!.version))))
    authentication.recheckVerdict = () => this.#later<RecheckVerdict>(() => ({ is: 'holds' }))
    // What reaches the backend is allowed by the rules in force, not by some that were.
    backend.onPublish = ({ message }) => {
      this.published++
      expect(isAllowed(this.#authorization, message.topic.name), `${message.topic.name} by version ${this.#authorization}`).toBe(true)
    }
    backend.restrict = (_session, connection, ticket, rights) => {
      const stores = this.#stores.get(connection) ?? []
      this.#stores.set(connection, stores)
      stores.push(() => {
        this.#stored.set(connection, readPermit(new ByteReader(rights.permit)))
        this.#world.frontend.subscribed(connection, ticket, [])
      })
      // Late, but in the order in which they were asked for.
      this.#waiting.push(() => stores.shift()!())
    }
  }

  async go(steps: number): Promise<void> {
    for (let i = 0; i < 3; i++) {
      const opening = this.#world.connect(5, { properties: { authenticationMethod: METHOD } })
      this.#answer(Infinity)
      this.#clients.push((await opening).forget())
      await this.#world.settled()
    }
    for (let step = 0; step < steps; step++) {
      await this.#step()
      this.#checkReceived()
    }
    // Everybody answers at last: all go on by the rules in force, or have ended.
    for (let round = 0; round < 10; round++) {
      this.#world.pass(3_000)
      this.#answer(Infinity)
      await this.#world.settled()
    }
    this.#checkReceived()
    for (const { connection, transport } of this.#clients) {
      if (transport.isEnded) continue
      expect([connection.phase, connection.duty, transport.isPaused, connection.isRestricting]).toEqual(['open', null, false, false])
      expect(connection.grant?.policy).toEqual(this.#world.port.rules.policy)
    }
  }

  /** From 0 to below `count`. */
  #below(count: number): number {
    return this.#random.int(0, count - 1)
  }

  async #step(): Promise<void> {
    const client = this.#clients[this.#below(this.#clients.length)]!
    const topic = TOPICS[this.#below(TOPICS.length)]!
    const choice = this.#below(20)
    if (choice < 3) this.#change()
    else if (choice < 4) this.#world.authentication.changeBehind()
    else if (choice < 9) client.send(publishPacket(topic, this.#below(2) === 0 ? 0 : ++this.#packetId))
    else if (choice < 12) this.#deliver(client, topic)
    else if (choice < 13) this.#reauthenticate(client)
    else if (choice < 17) this.#answer(1 + this.#below(3))
    else this.#world.pass(100 * this.#below(20))
    await this.#world.settled()
  }

  #change(): void {
    if (this.#below(3) === 0) this.#authentication++
    else this.#authorization = 1 + this.#below(15)
    const onUpdate = this.#below(30) === 0 ? 'Disconnect' : 'Reevaluate'
    const rules = rulesOf(`${this.#authentication}`, `${this.#authorization}`, { onUpdate, disconnectWithinMs: 1_000 })
    this.#world.frontend.changeRules(this.#world.port, rules)
  }

  /** As a backend does that goes by the rights that it has stored, whatever it was told since. */
  #deliver({ connection }: FakeClient, topic: string): void {
    const rights = this.#stored.get(connection.id) ?? permitOfVersion(FIRST)
    if (!rights.maySubscribe(topic)) return
    const recipients = new Recipients()
    recipients.add(connection.id, 1, ++this.#packetId, null)
    this.#world.frontend.deliver(newMessage(this.#world.topics.fromName(topic), Buffer.alloc(1)), recipients)
  }

  #reauthenticate(client: FakeClient): void {
    if (client.connection.phase !== 'open' || this.#reauthenticating.has(client)) return
    this.#reauthenticating.add(client)
    client.send(encodeAuth(ReasonCode.ReAuthenticate, { method: METHOD }))
  }

  #checkReceived(): void {
    for (const client of this.#clients) {
      for (const packet of client.packets) {
        if (packet.cmd === 'auth') this.#reauthenticating.delete(client)
        if (packet.cmd !== 'publish') continue
        this.received++
        expect(isAllowed(this.#authorization, packet.topic), `got ${packet.topic}`).toBe(true)
      }
      client.forget()
    }
  }

  #accepted(version: number): Verdict {
    this.#world.authentication.permit = permitOfVersion(version)
    return this.#world.authentication.accepted()
  }

  /** An answer that comes when the run says so; now and then it is that there is none. */
  #later<T>(answer: () => T): Promise<T | { readonly is: 'unavailable'; readonly cause: string }> {
    return new Promise(resolve => {
      this.#waiting.push(() => resolve(this.#below(10) === 0 && this.#clients.length === 3 ? { is: 'unavailable', cause: '' } : answer()))
    })
  }

  #answer(count: number): void {
    for (let left = Math.min(count, this.#waiting.length); left > 0; left--) {
      this.#waiting.splice(this.#below(this.#waiting.length), 1)[0]!()
    }
  }
}

test('whatever changes and answers in whatever order: nothing is done by rights of before, and in the end all go on', async () => {
  let published = 0
  let received = 0
  for (let seed = 1; seed <= 150; seed++) {
    const run = new Run(seed)
    await run.go(40).catch((error: unknown) => {
      throw new Error(`seed ${seed}`, { cause: error })
    })
    published += run.published
    received += run.received
  }
  expect([published > 500, received > 500]).toEqual([true, true])
})
