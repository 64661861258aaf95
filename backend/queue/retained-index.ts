import { ownCopy } from '#shared/base/own-copy.ts'

const DOLLAR = 0x24

/** Up to as many levels below one level stand in an array: a third of a Map's memory, and found sooner. */
const ARRAY_MAX = 8

class TopicNode<M> {
  readonly name: string
  /** Counts the index's nodes as they are made, so that a cursor knows what it has seen and what is younger than itself. */
  readonly number: number
  message: M | undefined = undefined
  /** Levels below: none, one, some, or many; oldest first. A Map stays one until it is empty, because cursors may stand in it. */
  children: TopicNode<M> | TopicNode<M>[] | Map<string, TopicNode<M>> | null = null

  constructor(name: string, number: number) {
    this.name = name
    this.number = number
  }

  child(name: string): TopicNode<M> | undefined {
    const { children } = this
    if (children === null) return undefined
    if (children instanceof TopicNode) return children.name === name ? children : undefined
    if (children instanceof Map) return children.get(name)
    for (const child of children) if (child.name === name) return child
    return undefined
  }

  attach(child: TopicNode<M>): void {
    const { children } = this
    if (children === null) this.children = child
    else if (children instanceof TopicNode) this.children = [children, child]
    else if (children instanceof Map) children.set(child.name, child)
    else if (children.length < ARRAY_MAX) children.push(child)
    else this.children = new Map([...children, child].map(node => [node.name, node]))
  }

  detach(child: TopicNode<M>): void {
    const { children } = this
    if (children instanceof Map) {
      children.delete(child.name)
      if (children.size === 0) this.children = null
    } else if (Array.isArray(children)) {
      children.splice(children.indexOf(child), 1)
      if (children.length === 1) this.children = children[0]!
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
    return new RetainedCursor(this.#root, filter, this.#nodesMade, startsWithWildcard(filter))
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
 * of levels that are younger than the cursor it visits none but those that the filter names, so that nobody can keep it busy by adding more.
 */
export class RetainedCursor<M> {
  /** Of the filter, without a `#` at its end. */
  readonly #levels: readonly string[]
  readonly #isMulti: boolean
  readonly #skipsDollar: boolean
  readonly #newestNumber: number
  /** The levels above whose children are being visited. */
  readonly #visits: ChildrenVisit<M>[] = []
  /** Comes next, before what `#visits` have left. */
  #pending: TopicNode<M> | null
  #pendingDepth = 0

  /** @internal Made by `RetainedIndex.cursor`. */
  constructor(root: TopicNode<M>, filter: string, newestNumber: number, skipsDollar: boolean) {
    const levels = filter.split('/')
    this.#isMulti = levels.at(-1) === '#'
    this.#skipsDollar = skipsDollar
    if (this.#isMulti) levels.pop()
    this.#levels = levels
    this.#newestNumber = newestNumber
    this.#pending = root
  }

  /** Nothing is left. */
  get done(): boolean {
    return this.#pending === null && this.#visits.length === 0
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

  /** Takes the next child of the innermost level that still has one. */
  #advance(): void {
    for (let visit = this.#visits.at(-1); visit !== undefined; visit = this.#visits.at(-1)) {
      const child = visit.next(this.#newestNumber)
      if (child !== null) {
        this.#pending = child
        this.#pendingDepth = visit.depth
        return
      }
      this.#visits.pop()
    }
  }

  /** Prepares what comes below `node`, whose `depth` levels match, and answers its message if the filter ends here. */
  #visit(node: TopicNode<M>, depth: number): M | undefined {
    // A wildcard does not match a first level that starts with $ [MQTT-4.7.2-1].
    if (depth === 1 && this.#skipsDollar && node.name.charCodeAt(0) === DOLLAR) return undefined
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
    if (node.children instanceof TopicNode) {
      this.#pending = node.children
      this.#pendingDepth = depth
    } else if (node.children !== null) this.#visits.push(new ChildrenVisit(node, depth))
  }
}

/** A visit to the children of one node, oldest first, while they come and go. */
class ChildrenVisit<M> {
  /** Of the children. */
  readonly depth: number
  readonly #parent: TopicNode<M>
  #lastNumber = 0
  #iterator: Iterator<TopicNode<M>> | null = null

  constructor(parent: TopicNode<M>, depth: number) {
    this.#parent = parent
    this.depth = depth
  }

  /** The oldest child not visited yet, or null when there is none or it is younger than `newestNumber`. */
  next(newestNumber: number): TopicNode<M> | null {
    const child = this.#oldestUnvisited()
    if (child === null || child.number > newestNumber) return null
    this.#lastNumber = child.number
    return child
  }

  #oldestUnvisited(): TopicNode<M> | null {
    const { children } = this.#parent
    if (children === null) return null
    if (children instanceof TopicNode) return children.number > this.#lastNumber ? children : null
    if (Array.isArray(children)) return children.find(child => child.number > this.#lastNumber) ?? null
    // The Map may have been an array when the visit began; then it repeats a few.
    this.#iterator ??= children.values()
    for (let { value } = this.#iterator.next(); value !== undefined; { value } = this.#iterator.next()) {
      if (value.number > this.#lastNumber) return value
    }
    return null
  }
}

function levelEnd(topic: string, at: number): number {
  const slash = topic.indexOf('/', at)
  return slash === -1 ? topic.length : slash
}

/** Then it does not match topics whose first level starts with $ [MQTT-4.7.2-1]. */
function startsWithWildcard(filter: string): boolean {
  return filter.startsWith('+') || filter.startsWith('#')
}
