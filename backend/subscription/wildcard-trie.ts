const SLASH = 0x2f
const PLUS = 0x2b
const HASH = 0x23
const DOLLAR = 0x24

class TrieNode<V> {
  readonly name: string
  /** What follows this level in the only filter that passes here, not yet split into nodes. Such a node has `value` and nothing below. */
  tail: string | null = null
  /** Of the filter that ends here, or with `tail`. */
  value: V | null = null
  /** Of the filter that goes on with `#`, which also matches what ends here (§4.7.1.2). */
  multi: V | null = null
  plus: TrieNode<V> | null = null
  /** Literal levels below: none, one, or a Map of several. */
  children: TrieNode<V> | Map<string, TrieNode<V>> | null = null

  constructor(name: string) {
    this.name = name
  }

  get isEmpty(): boolean {
    return this.value === null && this.multi === null && this.plus === null && this.children === null
  }

  child(name: string): TrieNode<V> | undefined {
    const { children } = this
    if (children === null) return undefined
    if (children instanceof Map) return children.get(name)
    return children.name === name ? children : undefined
  }

  attach(child: TrieNode<V>, isPlus: boolean): void {
    if (isPlus) this.plus = child
    else if (this.children === null) this.children = child
    else if (this.children instanceof Map) this.children.set(child.name, child)
    else this.children = new Map([this.children, child].map(node => [node.name, node]))
  }

  detach(child: TrieNode<V>): void {
    if (this.plus === child) this.plus = null
    else if (this.children === child) this.children = null
    else if (this.children instanceof Map) {
      this.children.delete(child.name)
      if (this.children.size === 1) for (const last of this.children.values()) this.children = last
    }
  }
}

/**
 * Topic Filters with wildcards → V, and all V of the filters that match a Topic Name (§4.7). The end of a filter that it shares with
 * no other stays one string, so a filter like `device/17/+/set` costs one node.
 *
 * No recursion. A match visits the nodes whose path matches a beginning of the topic: at most two per node visited above, and no more
 * than there are. Its worst case, all F filters made of `+` and of levels that the topic has, is F times the levels; nothing that does not
 * match so far is ever visited.
 */
export class WildcardTrie<V> {
  readonly #root = new TrieNode<V>('')
  /** Of the walk that is running, kept to spare their allocation: a node and how many levels lead to it. */
  readonly #nodes: TrieNode<V>[] = []
  readonly #depths: number[] = []
  #nodeCount = 0

  /** Nodes below the root; 0 when there is no filter. */
  get nodeCount(): number {
    return this.#nodeCount
  }

  get(filter: string): V | undefined {
    return this.#path(filter)?.value
  }

  /** The value of `filter`, made by `create` when there is none. */
  getOrInsert(filter: string, create: () => V): V {
    let node = this.#root
    for (let at = 0; ; ) {
      if (filter.charCodeAt(at) === HASH) return (node.multi ??= create())
      const end = levelEnd(filter, at)
      const isLast = end === filter.length
      const isPlus = filter.charCodeAt(at) === PLUS
      const child = isPlus ? node.plus : node.child(filter.slice(at, end))
      if (child === null || child === undefined) return this.#addLeaf(node, filter, at, create())
      if (child.tail !== null) {
        if (!isLast && child.tail === filter.slice(end + 1)) return child.value!
        this.#split(child)
      }
      if (isLast) return (child.value ??= create())
      node = child
      at = end + 1
    }
  }

  /** Forgets `filter` and every node that only it needed. */
  delete(filter: string): boolean {
    const path = this.#path(filter)
    if (path === null) return false
    const { nodes, isMulti } = path
    const last = nodes.at(-1)!
    if (isMulti) last.multi = null
    else {
      last.value = null
      last.tail = null
    }
    for (let depth = nodes.length - 1; depth > 0 && nodes[depth]!.isEmpty; depth--) {
      nodes[depth - 1]!.detach(nodes[depth]!)
      this.#nodeCount--
    }
    return true
  }

  /** Appends to `found` the values of all filters that match `topic`. A wildcard does not match a first level that starts with `$` [MQTT-4.7.2-1]. */
  collect(topic: string, found: V[]): void {
    if (this.#root.isEmpty) return
    const levels = topic.split('/')
    const starts = levelStarts(levels)
    const nodes = this.#nodes
    const depths = this.#depths
    this.#enterRoot(topic, levels[0]!, found)
    for (let node = nodes.pop(); node !== undefined; node = nodes.pop()) {
      const depth = depths.pop()!
      if (node.tail !== null) {
        if (tailMatches(node.tail, topic, starts[depth]!)) found.push(node.value!)
        continue
      }
      if (node.multi !== null) found.push(node.multi)
      if (depth === levels.length) {
        if (node.value !== null) found.push(node.value)
        continue
      }
      if (node.plus !== null) {
        nodes.push(node.plus)
        depths.push(depth + 1)
      }
      const child = node.child(levels[depth]!)
      if (child !== undefined) {
        nodes.push(child)
        depths.push(depth + 1)
      }
    }
  }

  #enterRoot(topic: string, firstLevel: string, found: V[]): void {
    const root = this.#root
    if (topic.charCodeAt(0) !== DOLLAR) {
      if (root.multi !== null) found.push(root.multi)
      if (root.plus !== null) {
        this.#nodes.push(root.plus)
        this.#depths.push(1)
      }
    }
    const child = root.child(firstLevel)
    if (child !== undefined) {
      this.#nodes.push(child)
      this.#depths.push(1)
    }
  }

  /** From the root to the node that holds the value of `filter`; `isMulti` when it holds it as `multi`. */
  #path(filter: string): { nodes: TrieNode<V>[]; isMulti: boolean; value: V } | null {
    let node = this.#root
    const nodes = [node]
    for (let at = 0; ; ) {
      if (filter.charCodeAt(at) === HASH) return node.multi === null ? null : { nodes, isMulti: true, value: node.multi }
      const end = levelEnd(filter, at)
      const isLast = end === filter.length
      const child = filter.charCodeAt(at) === PLUS ? node.plus : node.child(filter.slice(at, end))
      if (child === null || child === undefined) return null
      nodes.push(child)
      if (child.tail !== null || isLast) {
        const isHere = child.tail === (isLast ? null : filter.slice(end + 1))
        return isHere && child.value !== null ? { nodes, isMulti: false, value: child.value } : null
      }
      node = child
      at = end + 1
    }
  }

  #addLeaf(parent: TrieNode<V>, filter: string, at: number, value: V): V {
    const end = levelEnd(filter, at)
    const leaf = new TrieNode<V>(filter.slice(at, end))
    leaf.tail = end === filter.length ? null : filter.slice(end + 1)
    leaf.value = value
    parent.attach(leaf, filter.charCodeAt(at) === PLUS)
    this.#nodeCount++
    return value
  }

  /** Moves the first level of a node's tail into a node of its own. */
  #split(node: TrieNode<V>): void {
    const tail = node.tail!
    const value = node.value!
    node.tail = null
    node.value = null
    if (tail.charCodeAt(0) === HASH) node.multi = value
    else this.#addLeaf(node, tail, 0, value)
  }
}

function levelEnd(filter: string, at: number): number {
  const slash = filter.indexOf('/', at)
  return slash === -1 ? filter.length : slash
}

/** Where each level starts, and at the end one past the topic's end and its missing slash. */
function levelStarts(levels: readonly string[]): number[] {
  const starts = [0]
  let at = 0
  for (const level of levels) {
    at += level.length + 1
    starts.push(at)
  }
  return starts
}

/** Whether the levels of `topic` from `at` on match `tail`. `at` past the topic's end: no level is left, which is not an empty one. */
function tailMatches(tail: string, topic: string, at: number): boolean {
  for (let t = 0; ; t++, at++) {
    const first = tail.charCodeAt(t)
    if (first === HASH) return true
    if (at > topic.length) return false
    if (first === PLUS) {
      t++
      while (at < topic.length && topic.charCodeAt(at) !== SLASH) at++
    } else {
      for (; t < tail.length && tail.charCodeAt(t) !== SLASH; t++, at++) if (topic.charCodeAt(at) !== tail.charCodeAt(t)) return false
      if (at < topic.length && topic.charCodeAt(at) !== SLASH) return false
    }
    if (t === tail.length) return at === topic.length
  }
}
