import { setTimeout as sleep } from 'node:timers/promises'
import { aroundMissing, type History, type Missing, missing, missingText, unwanted } from './checker.ts'
import { Churner } from './churner.ts'
import type { Inbox, Publication } from './ledger.ts'
import { publishers, subscribers, workers } from './parts.ts'
import { Publisher } from './publisher.ts'
import { readRetained, RetainedWriter } from './retained-writer.ts'
import type { Stage } from './stage.ts'
import { Subscriber } from './subscriber.ts'

/** What is owed and does not come is lost after so long without any progress. */
const PATIENCE_MS = 10_000
const LOOK_MS = 25
/** So many times as long as it took is waited between looks. */
const LOOK_SHARE = 10
/** For what must not come. */
const QUIET_MS = 150

/** Clients with a Will: when they go, and so which Wills are due, depends on what is done to the broker. */
export interface Wills {
  readonly inbox: Inbox
  /** Who receives them. */
  readonly watcher: { stop(): Promise<void> }
  /** Before the first message. */
  prepare(): Promise<void>
  /** Wills owed that have not come by the deadline. */
  missing(deadlineMs: number): Promise<string[]>
  /** Wills that must not have come. */
  wrong(): string[]
}

/** What a round of load found. */
export interface Outcome {
  readonly lost: readonly Missing[]
  readonly lostWills: readonly string[]
  readonly published: readonly Publication[]
  /** Those of them that were acknowledged. */
  readonly owed: readonly Publication[]
}

/** All clients of the tests that break the broker, and what it owes them. */
export class Load {
  readonly #stage: Stage
  readonly #publishers: readonly Publisher[]
  readonly #subscribers: readonly Subscriber[]
  readonly #workers: readonly Subscriber[]
  readonly #churners: readonly Churner[]
  readonly #writers: readonly RetainedWriter[]
  readonly #wills: Wills
  /** Of rounds before, for sessions that were asleep. */
  readonly #unread: Publication[] = []
  #running: Promise<unknown> = Promise.resolve()
  /** What `finish` waits for. */
  #waitsFor = 'nothing'

  constructor(stage: Stage, wills: Wills) {
    this.#stage = stage
    this.#publishers = publishers.map(part => new Publisher(stage, part))
    this.#subscribers = subscribers.map(part => new Subscriber(stage, part))
    this.#workers = workers.map(part => new Subscriber(stage, part))
    this.#churners = [new Churner(stage, 'c0', 5), new Churner(stage, 'c1', 4)]
    this.#writers = [new RetainedWriter(stage, 'r0', 5), new RetainedWriter(stage, 'r1', 4)]
    this.#wills = wills
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

  begin(): void {
    this.#stage.isLoaded = true
    const parts = [...this.#publishers, ...this.#receivers, ...this.#churners, ...this.#writers]
    this.#running = Promise.all(parts.map(part => part.run()))
  }

  /** Those whose return would hide what a crash left behind stay away until `writersReturn`. */
  writersStayAway(): void {
    for (const { client } of this.#writers) client.leaveBehind()
  }

  async writersReturn(): Promise<void> {
    await Promise.all(this.#writers.map(({ client }) => client.start()))
  }

  /** The load ends, what is on its way arrives. Answers what never did. */
  async finish(isEveryoneAwake: boolean): Promise<Outcome> {
    this.#stage.isLoaded = false
    this.#waitsFor = 'the load to end'
    await this.#running
    this.#waitsFor = 'everybody to connect'
    const awake = this.#receivers.filter(({ part }) => isEveryoneAwake || part.presence !== 'hibernating')
    for (const { client } of awake) client.isHurried = true
    await Promise.all([...awake, ...this.#churners, ...this.#writers, ...this.#publishers].map(({ client }) => client.start()))
    this.#waitsFor = 'answers to publishes'
    await this.#answered()
    this.#waitsFor = 'what is owed'
    const absent = await this.#arrived(awake)
    const { ledger } = this.#stage
    const lost = absent.map(each => ({ ...each, around: aroundMissing(each, this.#history(awake), tick => ledger.timeOf(tick)) }))
    this.#waitsFor = 'Wills'
    const lostWills = await this.#wills.missing(performance.now() + PATIENCE_MS)
    this.#waitsFor = 'pings'
    await sleep(QUIET_MS)
    await Promise.all(awake.map(({ client }) => client.ping()))
    this.#waitsFor = 'Retained Messages'
    await this.checkRetained('when all was acknowledged')
    this.#waitsFor = 'nothing'
    this.#describeDisorder()
    const history = this.#history(awake)
    for (const what of [...unwanted(history), ...this.#wills.wrong().map(each => `watcher: ${each}`)])
      this.#stage.ledger.violations.push(what)
    const publications = [...this.#stage.ledger.publications]
    if (isEveryoneAwake) this.#unread.length = 0
    else this.#unread.push(...publications)
    this.#stage.ledger.forget()
    if (isEveryoneAwake) await Promise.all(awake.filter(({ part }) => part.presence === 'hibernating').map(({ client }) => client.stop()))
    await Promise.all(awake.filter(({ part }) => part.presence === 'absent').map(({ client }) => client.stop()))
    return { lost, lostWills, published: publications, owed: publications.filter(({ acknowledgedAt }) => acknowledgedAt !== null) }
  }

  /** Everybody goes, and stays away. */
  async close(): Promise<void> {
    const all = [...this.#receivers, ...this.#churners, ...this.#writers, ...this.#publishers].map(({ client }) => client)
    await Promise.all([...all, this.#wills.watcher].map(client => client.stop()))
  }

  /** For a report about a broker that never comes to rest: what is waited for, and who has something unfinished. */
  busy(): string[] {
    const clients = [...this.#receivers, ...this.#churners, ...this.#writers, ...this.#publishers].map(({ client }) => client)
    const states = clients
      .filter(({ isOpen, outgoing, incoming }) => !isOpen || outgoing.size > 0 || incoming.held > 0)
      .map(({ options, isOpen, outgoing, incoming }) => {
        const unfinished = `${outgoing.size} publishes and ${incoming.held} deliveries unfinished`
        return `${options.clientId}: ${isOpen ? 'connected' : 'not connected'}, ${unfinished}`
      })
    return [`waits for ${this.#waitsFor}`, ...states]
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
    return this.#subscribers.flatMap(({ inbox, part }) => inbox.disordered.map(what => `${what} to ${part.options.clientId}`))
  }

  /** Adds the times of the messages, while the ledger knows them. */
  #describeDisorder(): void {
    for (const { inbox } of this.#subscribers) {
      inbox.disordered.forEach((what, at) => {
        const [, topic, number, after] = /^(\S+) (\d+) after (\d+)$/.exec(what) ?? []
        if (topic !== undefined) inbox.disordered[at] = `${what} (${this.#stage.ledger.timesOf(topic, Number(number), Number(after))})`
      })
    }
  }

  /** Compares what is retained with what its writers were told. */
  async checkRetained(when: string): Promise<void> {
    const differences = (found: ReadonlyMap<string, string>): string[] => this.#writers.flatMap(writer => writer.differences(found))
    const found = await readRetained(this.#stage, soFar => differences(soFar).length === 0)
    for (const difference of differences(found)) {
      this.#stage.ledger.violation('retained', `${when}: ${difference}`)
    }
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
  async #arrived(awake: readonly Subscriber[]): Promise<Missing[]> {
    let absent = missing(this.#history(awake))
    let delivered = this.delivered
    let deadlineMs = performance.now() + PATIENCE_MS
    let lookedMs = 0
    while (absent.length > 0 && performance.now() < deadlineMs) {
      // To look for what is missing takes time that the clients need: after a long round not all the time.
      await sleep(Math.max(LOOK_MS, LOOK_SHARE * lookedMs))
      const startMs = performance.now()
      absent = missing(this.#history(awake))
      lookedMs = performance.now() - startMs
      if (this.delivered > delivered) deadlineMs = performance.now() + PATIENCE_MS
      ;({ delivered } = this)
    }
    for (const each of awake) {
      if (await each.settle(performance.now() + PATIENCE_MS)) continue
      this.#stage.ledger.violation(each.part.options.clientId, `${each.client.incoming.held} QoS 2 messages are never released`)
    }
    return absent
  }

  #history(awake: readonly Subscriber[]): History {
    const { publications } = this.#stage.ledger
    return {
      publications,
      sessions: awake.map(each => each.history(each.part.presence === 'hibernating' ? [...this.#unread, ...publications] : publications)),
      group: this.#workers.map(({ inbox }) => inbox),
      churners: this.#churners.map(({ history }) => history),
    }
  }
}

/** The sentences of a report. */
export function lostTexts({ lost, lostWills }: Outcome): string[] {
  return [...lost.map(missingText), ...lostWills]
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0)
}
