import type { History, Qos } from './history.ts'
import { type ClientKind, SimClient } from './sim-client.ts'
import { StoreKnowledge, StoreUser } from './sim-store-user.ts'
import type { ClientPort } from './sim-transport.ts'
import type { World } from './world.ts'

const TOPICS = ['t/1', 't/2', 't/3', 't/1/x', 'u/1', 'u/2']
const FILTERS = ['t/1', 't/2', 't/3', 't/+', 't/#', '+/1', '+/2', 't/1/x', 'u/1', 'u/2', 'u/+', 'r/+', 'w/+']
/** Nothing but one Shared Subscription matches each of these topics, so that each delivery on it belongs to the group. */
const GROUP_TOPICS = ['g/a/b', 'h/a/b']
const GROUP_FILTERS = ['$share/one/g/a/b', '$share/one/h/+/b']
const WILL_TOPIC = 'w/1'
/** As many publishes a client has unanswered at most: one of these in each run. */
const UNANSWERED_MAX = [10, 20, 100]
/** Of the choices below, so many from the end: publishes alone. */
const PUBLISHERS_CHOOSE = 0.75
/** Who uses the state store does so every other time. */
const STORE_CHOSEN = 0.5
const RECONNECT_MS_MAX = 1_500
const PROMPT_RECONNECT_MS = 100

export interface WorkloadOptions {
  readonly clientsMin: number
  readonly clientsMax: number
  /** Mean milliseconds between two acts of a client. */
  readonly pauseMs: number
  /** Share of clients that do nothing but publish, on connections that last: nothing holds them up. */
  readonly publishersShare: number
  /** These have the first port for themselves, and the others keep their connections and Subscriptions. */
  readonly isDivided: boolean
  /** Share of clients of MQTT 5 that use the state store. */
  readonly storeShare: number
}

/** Clients that do at random what clients do. */
export class Workload {
  readonly clients: SimClient[] = []
  readonly #world: World
  readonly #history: History
  readonly #ports: () => readonly ClientPort[]
  readonly #pauseMs: number
  readonly #isDivided: boolean
  readonly #unansweredMax: number
  readonly #storeShare: number
  readonly #stored = new StoreKnowledge()
  readonly #publishers = new Set<SimClient>()
  /** Filters that a client has asked for and not given back. */
  readonly #filters = new Map<SimClient, Set<string>>()
  #phase: 'busy' | 'quiet' = 'busy'

  constructor(world: World, history: History, ports: () => readonly ClientPort[], options: WorkloadOptions) {
    this.#world = world
    this.#history = history
    this.#ports = ports
    this.#pauseMs = options.pauseMs
    this.#isDivided = options.isDivided
    this.#unansweredMax = world.random.pick(UNANSWERED_MAX)
    this.#storeShare = options.storeShare
    const count = world.random.int(options.clientsMin, options.clientsMax)
    for (let number = 1; number <= count; number++) {
      this.#add(this.#kind(number), number)
      if (number > 2 && world.random.chance(options.publishersShare)) this.#publishers.add(this.clients.at(-1)!)
    }
  }

  #kind(number: number): ClientKind {
    const { random } = this.#world
    return {
      clientId: `c${number}`,
      version: random.chance(0.3) ? 4 : 5,
      // Somebody must keep what is sent.
      isPersistent: number <= 2 || random.chance(0.75),
      receiveMaximum: random.pick([1, 2, 5, 100, 65_535]),
      ackDelayMsMax: random.pick([0, 0, 20, 300]),
      willTopic: random.chance(0.3) ? WILL_TOPIC : null,
    }
  }

  #add(kind: ClientKind, number: number): void {
    const client = new SimClient(this.#world, this.#history, kind, `192.0.2.${number}`)
    this.clients.push(client)
    if (kind.version === 5 && this.#storeShare > 0 && this.#world.random.chance(this.#storeShare))
      client.store = new StoreUser(this.#world, this.#history, client, this.#stored)
    this.#filters.set(client, new Set())
    client.onOffline = () => this.#connectLater(client)
    this.#world.after(this.#world.between(0, 300), () => this.#connect(client))
    this.#actLater(client)
  }

  // ---- connections

  #connectLater(client: SimClient): void {
    const waitMs = this.#phase === 'busy' ? this.#world.between(1, RECONNECT_MS_MAX) : PROMPT_RECONNECT_MS
    this.#world.after(waitMs, () => this.#connect(client))
  }

  #connect(client: SimClient): void {
    if (!client.isOffline) return
    const ports = this.#ports().filter(({ isReady }) => isReady)
    if (ports.length === 0) return this.#connectLater(client)
    const { random } = this.#world
    const isClean = this.#phase === 'busy' && client.kind.version === 5 && random.chance(0.05)
    if (isClean || !client.kind.isPersistent) this.#filters.get(client)!.clear()
    if (this.#isDivided) client.connect(ports.at(this.#publishers.has(client) ? 0 : -1)!, false)
    else client.connect(random.pick(ports), isClean)
  }

  /** From now on clients only finish what they began. */
  settle(): void {
    this.#phase = 'quiet'
    for (const client of this.clients) {
      client.isPrompt = true
      client.stall(false)
      this.#connect(client)
    }
  }

  /** Everybody is there and nobody waits for anything. */
  get isSettled(): boolean {
    return this.clients.every(client => client.isOnline && client.unanswered === 0)
  }

  /** Somebody asks for every key of the state store. False: nobody can. */
  readStore(): boolean {
    return this.clients.some(({ store }) => store?.readAll() === true)
  }

  reportStuck(): void {
    for (const client of this.clients) {
      const { waitsFor } = client
      if (waitsFor.length > 0) this.#history.add({ is: 'stuck', client: client.clientId, what: `waits for ${waitsFor.join(', ')}` })
    }
  }

  // ---- what they do

  #actLater(client: SimClient): void {
    this.#world.after(this.#world.random.next() * 2 * this.#pauseMs, () => {
      if (this.#phase === 'quiet') return
      if (client.isOnline) this.#act(client)
      this.#actLater(client)
    })
  }

  #act(client: SimClient): void {
    const { random } = this.#world
    if (client.store !== null && random.chance(STORE_CHOSEN)) return client.store.act()
    const choice = this.#publishers.has(client) ? 1 - random.next() * PUBLISHERS_CHOOSE : random.next()
    if (this.#isDivided && choice < 0.25) return this.#subscribe(client)
    if (choice < 0.02) return client.disconnect()
    if (choice < 0.05) return client.cut()
    if (choice < 0.07) return client.stall(random.chance(0.5))
    if (choice < 0.2) return this.#subscribe(client)
    if (choice < 0.25) return this.#unsubscribe(client)
    if (random.chance(0.8)) return this.#publish(client)
    const burst = random.int(2, 8)
    if (random.chance(0.5)) for (let sent = 0; sent < burst; sent++) this.#publish(client)
    else this.#publishMany(client, burst, random.pick(TOPICS), random.pick<Qos>([1, 1, 2]))
  }

  #subscribe(client: SimClient): void {
    const { random } = this.#world
    const isShared = client.kind.version === 5 && client.kind.isPersistent && random.chance(0.25)
    const filter = isShared ? random.pick(GROUP_FILTERS) : random.pick(FILTERS)
    if (client.isAsking(filter)) return
    this.#filters.get(client)!.add(filter)
    client.subscribe(filter, isShared ? 2 : random.pick([0, 1, 2, 2]), client.kind.version === 5 && !isShared && random.chance(0.1))
  }

  #unsubscribe(client: SimClient): void {
    const filters = [...this.#filters.get(client)!]
    if (filters.length === 0) return
    const filter = this.#world.random.pick(filters)
    if (client.isAsking(filter)) return
    this.#filters.get(client)!.delete(filter)
    client.unsubscribe(filter)
  }

  /** In an order that can be seen. */
  #publishMany(client: SimClient, count: number, topic: string, qos: Qos): void {
    for (let sent = 0; sent < count && client.unanswered < this.#unansweredMax; sent++) client.publish(topic, qos, false)
  }

  #publish(client: SimClient): void {
    const { random } = this.#world
    if (client.unanswered >= this.#unansweredMax) return
    const choice = random.next()
    // One writer for each retained topic, and one QoS, so that there is an order in which to see its messages.
    if (choice < 0.12) return client.publish(`r/${client.clientId}`, this.clients.indexOf(client) % 2 === 0 ? 1 : 2, true)
    const qos = random.pick<Qos>([0, 1, 1, 1, 2, 2])
    if (choice < 0.25) return client.publish(random.pick(GROUP_TOPICS), qos, false)
    client.publish(random.pick(TOPICS), qos, false)
  }
}
