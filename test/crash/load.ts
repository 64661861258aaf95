import { setTimeout as sleep } from 'node:timers/promises'
import { publishers, subscribers, workers } from './cast.ts'
import { Churner } from './churner.ts'
import type { Inbox, Publication } from './ledger.ts'
import { Publisher } from './publisher.ts'
import { readRetained, RetainedWriter } from './retained-writer.ts'
import type { Stage } from './stage.ts'
import { Subscriber } from './subscriber.ts'
import { WillClients } from './will-clients.ts'

/** What is owed and does not come is lost after so long without any progress. */
const PATIENCE_MS = 10_000
/** For what must not come. */
const QUIET_MS = 150

/** All clients of the crash test, and what the broker owes them. */
export class Load {
  readonly #stage: Stage
  readonly #publishers: readonly Publisher[]
  readonly #subscribers: readonly Subscriber[]
  readonly #workers: readonly Subscriber[]
  readonly #churners: readonly Churner[]
  readonly #writers: readonly RetainedWriter[]
  readonly #wills: WillClients
  /** Of rounds before, for sessions that were asleep. */
  readonly #unread: Publication[] = []
  #running: Promise<unknown> = Promise.resolve()

  constructor(stage: Stage) {
    this.#stage = stage
    this.#publishers = publishers.map(part => new Publisher(stage, part))
    this.#subscribers = subscribers.map(part => new Subscriber(stage, part))
    this.#workers = workers.map(part => new Subscriber(stage, part))
    this.#churners = [new Churner(stage, 'c0', 5), new Churner(stage, 'c1', 4)]
    this.#writers = [new RetainedWriter(stage, 'r0', 5), new RetainedWriter(stage, 'r1', 4)]
    this.#wills = new WillClients(stage)
  }

  get #receivers(): readonly Subscriber[] {
    return [...this.#subscribers, ...this.#workers]
  }

  /** Sessions and Subscriptions, before the first message. */
  async prepare(): Promise<void> {
    await Promise.all(this.#receivers.map(each => each.prepare()))
    await this.#wills.prepare()
    await Promise.all([...this.#publishers, ...this.#churners, ...this.#writers].map(({ client }) => client.start()))
  }

  async begin(): Promise<void> {
    await this.#wills.connect()
    this.#stage.isLoaded = true
    const parts = [...this.#publishers, ...this.#receivers, ...this.#churners, ...this.#writers]
    this.#running = Promise.all(parts.map(part => part.run()))
  }

  /** Some of those with a Will go before the crash. */
  async leaveSome(): Promise<void> {
    await this.#wills.leave()
  }

  /** Those whose return would hide what the crash left behind stay away until `afterRestart`. */
  beforeKill(): void {
    for (const { client } of this.#writers) client.leaveBehind()
    this.#wills.beforeKill()
  }

  /** Looks at what the crash left behind, then lets everybody back. */
  async afterRestart(): Promise<void> {
    await this.#checkRetained('after the crash')
    await this.#wills.afterRestart()
    await Promise.all(this.#writers.map(({ client }) => client.start()))
  }

  /** The load ends, what is on its way arrives. Answers what never did. */
  async finish(isEveryoneAwake: boolean): Promise<{ lost: string[]; owed: number }> {
    this.#stage.isLoaded = false
    await this.#running
    const awake = this.#receivers.filter(({ part }) => isEveryoneAwake || part.presence !== 'hibernating')
    for (const { client } of awake) client.isHurried = true
    await Promise.all([...awake, ...this.#churners, ...this.#writers, ...this.#publishers].map(({ client }) => client.start()))
    await this.#answered()
    const lost = await this.#arrived(awake)
    lost.push(...(await this.#wills.missing(performance.now() + PATIENCE_MS)))
    await sleep(QUIET_MS)
    await Promise.all(awake.map(({ client }) => client.ping()))
    await this.#checkRetained('when all was acknowledged')
    this.#checkUnwanted()
    const { publications } = this.#stage.ledger
    const owed = publications.filter(({ acknowledgedAt }) => acknowledgedAt !== null).length
    if (isEveryoneAwake) this.#unread.length = 0
    else this.#unread.push(...publications)
    this.#stage.ledger.forget()
    if (isEveryoneAwake) await Promise.all(awake.filter(({ part }) => part.presence === 'hibernating').map(({ client }) => client.stop()))
    await Promise.all(awake.filter(({ part }) => part.presence === 'absent').map(({ client }) => client.stop()))
    return { lost, owed }
  }

  /** Everybody goes, and stays away. */
  async close(): Promise<void> {
    const all = [...this.#receivers, ...this.#churners, ...this.#writers, ...this.#publishers].map(({ client }) => client)
    await Promise.all([...all, this.#wills.watcher].map(client => client.stop()))
  }

  get delivered(): number {
    return sum(this.#inboxes.map(({ delivered }) => delivered))
  }

  get repeated(): number {
    return sum(this.#inboxes.map(({ repeated }) => repeated))
  }

  get duplicates(): string[] {
    return this.#inboxes.flatMap(({ duplicates }) => duplicates)
  }

  /**
   * Of Subscriptions that stand all the time. Of a group's members, one may have got the second of two messages just before the
   * crash and gets the first when its publisher sends both again; a Subscription that comes and goes may begin between them.
   */
  get disordered(): string[] {
    return this.#subscribers.flatMap(({ inbox }) => inbox.disordered)
  }

  get #inboxes(): readonly Inbox[] {
    return [...this.#receivers, ...this.#churners, this.#wills].map(({ inbox }) => inbox)
  }

  async #answered(): Promise<void> {
    const finished = Promise.all([...this.#publishers, ...this.#writers].map(each => each.finished())).then(() => true)
    if (await Promise.race([finished, sleep(3 * PATIENCE_MS, false, { ref: false })])) return
    for (const { client } of [...this.#publishers, ...this.#writers]) {
      if (client.outgoing.size > 0)
        this.#stage.ledger.violation(client.options.clientId, `${client.outgoing.size} publishes are never answered`)
    }
  }

  /** Waits for what is owed as long as something still comes. */
  async #arrived(awake: readonly Subscriber[]): Promise<string[]> {
    let missing = this.#missing(awake)
    let delivered = this.delivered
    let deadlineMs = performance.now() + PATIENCE_MS
    while (missing.length > 0 && performance.now() < deadlineMs) {
      await sleep(25)
      missing = this.#missing(awake)
      if (this.delivered > delivered) deadlineMs = performance.now() + PATIENCE_MS
      ;({ delivered } = this)
    }
    for (const each of awake) {
      if (await each.settle(performance.now() + PATIENCE_MS)) continue
      this.#stage.ledger.violation(each.part.options.clientId, `${each.client.incoming.held} QoS 2 messages are never released`)
    }
    return missing
  }

  #missing(awake: readonly Subscriber[]): string[] {
    const { publications } = this.#stage.ledger
    const name = (to: string, { topic, number, qos }: Publication): string => `${topic} ${number} (QoS ${qos}) to ${to}`
    const ofSubscribers = awake.flatMap(each => {
      const owed = each.part.presence === 'hibernating' ? [...this.#unread, ...publications] : publications
      return each.missing(owed).map(publication => name(each.part.options.clientId, publication))
    })
    const ofGroup = publications
      .filter(each => each.topic.startsWith('jobs/') && each.acknowledgedAt !== null && !this.#workers.some(({ inbox }) => inbox.has(each)))
      .map(each => name('the group', each))
    const ofChurners = this.#churners.flatMap(each =>
      each.missing(publications).map(publication => name(each.client.options.clientId, publication)),
    )
    return [...ofSubscribers, ...ofGroup, ...ofChurners]
  }

  /** What must not have come. */
  #checkUnwanted(): void {
    const { ledger } = this.#stage
    for (const churner of this.#churners) {
      for (const { topic, number } of churner.surplus(ledger.publications))
        ledger.violation(churner.client.options.clientId, `${topic} ${number} came after UNSUBACK`)
    }
    for (const what of this.#wills.wrong()) ledger.violation('watcher', what)
    for (const publication of ledger.publications) {
      const takers = this.#workers.filter(({ inbox }) => inbox.has(publication))
      if (publication.qos === 2 && takers.length > 1)
        ledger.violation('the group', `${publication.topic} ${publication.number} went to ${takers.length} members`)
    }
  }

  async #checkRetained(when: string): Promise<void> {
    const found = await readRetained(this.#stage)
    for (const writer of this.#writers) {
      for (const difference of writer.differences(found)) this.#stage.ledger.violation('retained', `${when}: ${difference}`)
    }
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0)
}
