import { redisFault, redisFaultText } from '#shared/cluster/redis-fault.ts'
import { type Locator, openLocator, type Placement } from '#shared/cluster/redis-locator.ts'
import type { StoreError } from '../shard-store.ts'
import { closedError } from './errors.ts'
import { Node, type NodeParts } from './node.ts'

export interface TopologyEvents {
  readonly onReady: (node: Node) => void
  readonly onDown: (node: Node) => void
  /** Other nodes may hold other keys now. */
  readonly onPlaced: () => void
  readonly onChange: () => void
  readonly onRefused: (error: StoreError) => void
  readonly onWarning: (text: string) => void
}

const CHECK_MS = 1_000
/** Every so many checks the primaries are asked for though nothing seems wrong. */
const RELOCATE_EVERY_CHECKS = 5

/** The primaries that hold our keys, each with its connections; kept up to date. */
export class Topology {
  readonly #keys: readonly string[]
  readonly #parts: NodeParts
  readonly #events: TopologyEvents
  readonly #locator: Locator
  readonly #nodes = new Map<string, Node>()
  #placement: Placement | null = null
  #trouble: string | null = null
  /** Some of our keys have no primary. */
  #isIncomplete = false
  #isLocating = false
  #isClosed = false
  #checks = 0
  #cancelCheck: (() => void) | null = null
  readonly #pauses = new Set<() => void>()
  /** Called at the next change of anything. */
  #waiting: (() => void)[] = []

  /** @param keys one key of each shard, and the marker of the store: the nodes that hold them are the ones we need */
  constructor(keys: readonly string[], parts: NodeParts, events: TopologyEvents) {
    this.#keys = keys
    this.#parts = parts
    this.#events = events
    this.#locator = openLocator(parts.url, parts.connecting, parts.timers)
    this.#check()
  }

  /** The node that holds `key`, ready or not. */
  nodeOf(key: string): Node | undefined {
    const name = this.#placement?.nodeOf(key)
    return name === undefined ? undefined : this.#nodes.get(name)
  }

  /** Resolves when the node of `key` is ready. @throws {StoreError} closed */
  async readyNodeOf(key: string): Promise<Node> {
    for (;;) {
      if (this.#isClosed) throw closedError()
      const node = this.nodeOf(key)
      if (node?.isReady === true) return node
      await new Promise<void>(resolve => this.#waiting.push(resolve))
    }
  }

  /** Waits, or less when the store is closed. */
  async pause(ms: number): Promise<void> {
    if (this.#isClosed) return
    await new Promise<void>(resolve => {
      const end = (): void => {
        cancel()
        this.#pauses.delete(end)
        resolve()
      }
      const cancel = this.#parts.timers.after(ms, end)
      this.#pauses.add(end)
    })
  }

  /** What keeps any of it from serving; null when nothing does. */
  get trouble(): string | null {
    if (this.#placement === null) return this.#trouble ?? 'connecting to Redis'
    if (this.#isIncomplete) return 'Redis Cluster: some slots have no primary'
    // Sentinels that do not answer matter when the primary is lost.
    for (const node of this.#nodes.values()) if (node.trouble !== null) return node.trouble
    return null
  }

  /** Asks who the primaries are; once at a time. */
  readonly relocate = (): void => {
    if (this.#isLocating || this.#isClosed) return
    this.#isLocating = true
    void this.#locator.locate().then(
      placement => this.#onLocated(placement),
      (error: unknown) => this.#onLost(error),
    )
  }

  close(): void {
    this.#isClosed = true
    this.#cancelCheck?.()
    this.#locator.close()
    for (const node of this.#nodes.values()) node.stop()
    this.#nodes.clear()
    for (const end of this.#pauses) end()
    this.#wake()
  }

  #check(): void {
    if (this.#isClosed) return
    if (this.#placement === null || ++this.#checks % RELOCATE_EVERY_CHECKS === 0) this.relocate()
    for (const node of this.#nodes.values()) node.check()
    this.#cancelCheck = this.#parts.timers.after(CHECK_MS, () => this.#check())
  }

  #onLocated(placement: Placement): void {
    this.#isLocating = false
    if (this.#isClosed) return
    this.#placement = placement
    this.#trouble = null
    const needed = new Set(this.#keys.map(key => placement.nodeOf(key)))
    this.#isIncomplete = needed.delete(undefined)
    for (const [name, node] of this.#nodes) {
      if (needed.has(name)) continue
      this.#nodes.delete(name)
      node.stop()
    }
    for (const [name, address] of placement.addresses) {
      if (!needed.has(name) || this.#nodes.has(name)) continue
      const node = this.#newNode(address)
      this.#nodes.set(name, node)
      node.start()
    }
    this.#events.onPlaced()
    this.#onChange()
  }

  #onLost(error: unknown): void {
    this.#isLocating = false
    if (this.#isClosed) return
    const cause = error instanceof Error ? (error.cause ?? error) : error
    const text = error instanceof Error ? error.message : redisFaultText(error)
    this.#trouble = redisFault(cause) === 'unreachable' ? `connecting to ${text.replace(/: (.*)$/, ' ($1)')}` : text
    this.#onChange()
  }

  #newNode(address: ConstructorParameters<typeof Node>[0]): Node {
    return new Node(address, this.#parts, {
      onReady: node => {
        this.#events.onReady(node)
        this.#wake()
      },
      onDown: this.#events.onDown,
      onChange: () => this.#onChange(),
      onRefused: this.#events.onRefused,
      onWarning: this.#events.onWarning,
      holdsConfig: node => this.nodeOf(this.#parts.configKey) === node,
      relocate: this.relocate,
    })
  }

  #onChange(): void {
    this.#events.onChange()
    this.#wake()
  }

  #wake(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const wake of waiting) wake()
  }
}
