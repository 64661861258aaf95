import { ownCopy } from '#shared/base/own-copy.ts'

const DOLLAR = 0x24

class TopicNode<M> {
  readonly name: string
  /** Counts the index's nodes as they are made, so that a cursor can tell what is younger than itself. */
  readonly number: number
  message: M | undefined = undefined
  /** Levels below: none, one, or a Map of several, oldest first. A Map stays one until it is empty, because cursors may stand in it. */
  children: TopicNode<M> | Map<string, TopicNode<M>> | null = null

  constructor(name: string, number: number) {
    this.name = name
    this.number = number
  }

  child(name: string): TopicNode<M> | undefined {
    const { children } = this
    if (children === null) return undefined
    if (children instanceof Map) return children.get(name)
    return children.name === name ? children : undefined
  }

  attach(child: TopicNode<M>): void {
    if (this.children === null) this.children = child
    else if (this.children instanceof Map) this.children.set(child.name, child)
    else this.children = new Map([this.children, child].map(node => [node.name, node]))
  }

  detach(child: TopicNode<M>): void {
    if (this.children instanceof Map) {
      this.children.delete(child.name)
      if (this.children.size === 0) this.children = null
    } else this.children = null
  }
}

/**
 * Retained Messages by Topic Name (§3.3.1.3), one per topic. Topics come validated; a topic's depth is limited by who
 * validates it. Looking one up costs one step per level.
 */
export class RetainedIndex<M> {
  readonly #root = new TopicNode<M>('', 0)
  #nodesMade = 0
  #nodeCount = 0
  #count = 0

  /** Topics that have a Retained Message. */
  get count(): number {
    return this.#count
  }

  /** Levels held below the root; 0 when there is no message. */
  get nodeCount(): number {
    return this.#nodeCount
  }

  /** Keeps `message`, which takes the place of the one that is returned [MQTT-3.3.1-5]. */
  set(topic: string, message: M): M | undefined {
    let node = this.#root
    for (let at = 0; at <= topic.length; ) {
      const end = levelEnd(topic, at)
      const name = topic.slice(at, end)
      node = node.child(name) ?? this.#addChild(node, name, topic)
      at = end + 1
    }
    const before = node.message
    node.message = message
    if (before === undefined) this.#count++
    return before
  }

  get(topic: string): M | undefined {
    let node: TopicNode<M> | undefined = this.#root
    for (let at = 0; at <= topic.length && node !== undefined; ) {
      const end = levelEnd(topic, at)
      node = node.child(topic.slice(at, end))
      at = end + 1
    }
    return node?.message
  }

  /** Forgets the topic's message, which is returned, and every level that only it needed [MQTT-3.3.1-6]. */
  delete(topic: string): M | undefined {
    const path = [this.#root]
    for (let at = 0; at <= topic.length; ) {
      const end = levelEnd(topic, at)
      const child = path.at(-1)!.child(topic.slice(at, end))
      if (child === undefined) return undefined
      path.push(child)
      at = end + 1
    }
    const before = path.at(-1)!.message
    if (before === undefined) return undefined
    path.at(-1)!.message = undefined
    this.#count--
    for (let depth = path.length - 1; depth > 0; depth--) {
      const node = path[depth]!
      if (node.message !== undefined || node.children !== null) break
      path[depth - 1]!.detach(node)
      this.#nodeCount--
    }
    return before
  }

  /** Walks the messages whose topics match `filter`, in no particular order. */
  cursor(filter: string): RetainedCursor<M> {
    return new RetainedCursor(this.#root, filter, this.#nodesMade)
  }

  #addChild(parent: TopicNode<M>, name: string, topic: string): TopicNode<M> {
    const child = new TopicNode<M>(ownCopy(name, topic), ++this.#nodesMade)
    parent.attach(child)
    this.#nodeCount++
    return child
  }
}

/**
 * A walk that can be put aside between any two steps while the index changes. It returns once each message whose topic had one without
 * interruption since the cursor was made, in its present version. Of messages that came or went meanwhile it may return some or none;
 * levels that are younger than the cursor end the walk of their Map, so that nobody can keep it busy by adding more.
 */
export class RetainedCursor<M> {
  /** Of the filter, without a `#` at its end. */
  readonly #levels: readonly string[]
  readonly #isMulti: boolean
  readonly #startsWithWildcard: boolean
  readonly #newestNumber: number
  /** Where the walk stands in the Maps above, and how deep their entries lie. */
  readonly #iterators: Iterator<TopicNode<M>>[] = []
  readonly #depths: number[] = []
  /** Comes next, before the iterators; the walk needs one of them or it is done. */
  #pending: TopicNode<M> | null
  #pendingDepth = 0

  /** @internal Made by `RetainedIndex.cursor`. */
  constructor(root: TopicNode<M>, filter: string, newestNumber: number) {
    const levels = filter.split('/')
    this.#isMulti = levels.at(-1) === '#'
    this.#startsWithWildcard = levels[0] === '+' || levels[0] === '#'
    if (this.#isMulti) levels.pop()
    this.#levels = levels
    this.#newestNumber = newestNumber
    this.#pending = root
  }

  /** Nothing is left. */
  get done(): boolean {
    return this.#pending === null && this.#iterators.length === 0
  }

  /**
   * The next message. Each level that is looked at takes one from `budget.steps`, whether it matches or not.
   * `undefined`: `done`, or the budget is used up; then call again with a new one.
   */
  next(budget: { steps: number }): M | undefined {
    while (budget.steps > 0) {
      if (this.#pending === null) this.#advance()
      const node = this.#pending
      if (node === null) return undefined
      this.#pending = null
      budget.steps--
      const message = this.#visit(node, this.#pendingDepth)
      if (message !== undefined) return message
    }
    return undefined
  }

  /** Takes the next node out of the innermost Map that still has one. */
  #advance(): void {
    while (this.#iterators.length > 0) {
      const { value, done } = this.#iterators.at(-1)!.next()
      if (done !== true && value.number <= this.#newestNumber) {
        this.#pending = value
        this.#pendingDepth = this.#depths.at(-1)!
        return
      }
      this.#iterators.pop()
      this.#depths.pop()
    }
  }

  /** Prepares what comes below `node`, whose `depth` levels match, and answers its message if the filter ends here. */
  #visit(node: TopicNode<M>, depth: number): M | undefined {
    // A wildcard does not match a first level that starts with $ [MQTT-4.7.2-1].
    if (depth === 1 && this.#startsWithWildcard && node.name.charCodeAt(0) === DOLLAR) return undefined
    const level = this.#levels[depth]
    if (level === undefined) {
      if (this.#isMulti) this.#enter(node, depth + 1)
      return node.message
    }
    if (level === '+') this.#enter(node, depth + 1)
    else {
      this.#pending = node.child(level) ?? null
      this.#pendingDepth = depth + 1
    }
    return undefined
  }

  #enter(node: TopicNode<M>, depth: number): void {
    const { children } = node
    if (children instanceof Map) {
      this.#iterators.push(children.values())
      this.#depths.push(depth)
    } else {
      this.#pending = children
      this.#pendingDepth = depth
    }
  }
}

function levelEnd(topic: string, at: number): number {
  const slash = topic.indexOf('/', at)
  return slash === -1 ? topic.length : slash
}
