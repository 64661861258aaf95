import { ownCopy } from '#shared/base/own-copy.ts'

const SLASH = 0x2f
const PLUS = 0x2b
const DOLLAR = 0x24

class TrieNode<V> {
  /** The levels that lead here from the node above, one at least, `+` among them; never `#`. */
  label: string
  levelCount: number
  /** Of the filter that ends here. */
  value: V | null = null
  /** Of the filter that goes on with `#`, which also matches what ends here (§4.7.1.2). */
  multi: V | null = null
  /** The node below whose label starts with `+`. */
  plus: TrieNode<V> | null = null
  /** Those whose label starts with a name: none, one, or several by their first level. */
  children: TrieNode<V> | Map<string, TrieNode<V>> | null = null

  constructor(label: string) {
    this.label = label
    this.levelCount = countLevels(label)
  }

  /** The node below whose label starts with `level`, which is not `+`. */
  child(level: string): TrieNode<V> | undefined {
    const { children } = this
    if (children === null) return undefined
    if (children instanceof Map) return children.get(level)
    return startsWithLevel(children.label, level) ? children : undefined
  }

  attach(child: TrieNode<V>): void {
    if (child.label.charCodeAt(0) === PLUS) this.plus = child
    else if (this.children === null) this.children = child
    else if (this.children instanceof Map) this.children.set(firstLevel(child.label), child)
    else this.children = new Map([this.children, child].map(node => [firstLevel(node.label), node]))
  }

  /** Puts `child` in the place of `known`, whose label starts with the same level. */
  replace(known: TrieNode<V>, child: TrieNode<V>): void {
    if (this.plus === known) this.plus = child
    else if (this.children instanceof Map) this.children.set(firstLevel(child.label), child)
    else this.children = child
  }

  detach(child: TrieNode<V>): void {
    if (this.plus === child) this.plus = null
    else if (this.children instanceof Map) {
      this.children.delete(firstLevel(child.label))
      if (this.children.size === 1) for (const last of this.children.values()) this.children = last
    } else this.children = null
  }

  get hasNoFilter(): boolean {
    return this.value === null && this.multi === null
  }

  /** The one node below, or null when there are none or several. */
  get onlyChild(): TrieNode<V> | null {
    if (this.children === null) return this.plus
    return this.plus === null && !(this.children instanceof Map) ? this.children : null
  }
}

/**
 * Topic Filters with wildcards → V, and all V of the filters that match a Topic Name (§4.7).
 *
 * Levels that no filter leaves stand together in one node, so there are at most two nodes per filter however long it is.
 * No recursion. A match looks at the nodes whose path may match a beginning of the topic, and compares the levels of each until one differs.
 * At worst, when all F filters are made of `+` and levels that the topic has, that is F times the topic's levels: measured 5 ms
 * for 10,000 filters of 128 levels, 0.4 ms for 16 levels. Who lets clients subscribe limits F.
 */
export class WildcardTrie<V> {
  readonly #root = new TrieNode<V>('')
  /** Of the walk that is running, kept to spare their allocation: a node and how many levels lead to its label. */
  readonly #nodes: TrieNode<V>[] = []
  readonly #depths: number[] = []
  #nodeCount = 0

  /** Nodes below the root: 0 when there is no filter, at most two per filter. */
  get nodeCount(): number {
    return this.#nodeCount
  }

  get(filter: string): V | undefined {
    const node = filter === '#' ? this.#root : this.#nodesTo(pathOf(filter))?.at(-1)
    return (isMultiLevel(filter) ? node?.multi : node?.value) ?? undefined
  }

  /** Puts `value` in the place of what `filter` had. */
  set(filter: string, value: V): void {
    const node = filter === '#' ? this.#root : this.#nodeFor(filter)
    if (isMultiLevel(filter)) node.multi = value
    else node.value = value
  }

  /** The value of `filter`, made by `create` when there is none. */
  getOrInsert(filter: string, create: () => V): V {
    const node = filter === '#' ? this.#root : this.#nodeFor(filter)
    if (isMultiLevel(filter)) return (node.multi ??= create())
    return (node.value ??= create())
  }

  /** Forgets `filter` and every node that only it needed. */
  delete(filter: string): boolean {
    const nodes = filter === '#' ? [this.#root] : this.#nodesTo(pathOf(filter))
    const node = nodes?.at(-1)
    if (nodes === null || node === undefined) return false
    if (isMultiLevel(filter)) {
      if (node.multi === null) return false
      node.multi = null
    } else {
      if (node.value === null) return false
      node.value = null
    }
    this.#tidy(nodes)
    return true
  }

  /** Appends to `found` the values of all filters that match `topic`. A wildcard does not match a first level that starts with `$` [MQTT-4.7.2-1]. */
  collect(topic: string, found: V[]): void {
    const levels = topic.split('/')
    const starts = levelStarts(levels)
    const hidesFromWildcards = topic.charCodeAt(0) === DOLLAR
    if (this.#root.multi !== null && !hidesFromWildcards) found.push(this.#root.multi)
    this.#descend(hidesFromWildcards ? null : this.#root.plus, this.#root.child(levels[0]!), 0)
    for (let node = this.#nodes.pop(); node !== undefined; node = this.#nodes.pop()) {
      const start = this.#depths.pop()!
      const depth = start + node.levelCount
      if (depth > levels.length || !labelMatches(node.label, topic, starts, start)) continue
      if (node.multi !== null) found.push(node.multi)
      if (depth < levels.length) this.#descend(node.plus, node.child(levels[depth]!), depth)
      else if (node.value !== null) found.push(node.value)
    }
  }

  #descend(plus: TrieNode<V> | null, child: TrieNode<V> | undefined, depth: number): void {
    if (plus !== null) {
      this.#nodes.push(plus)
      this.#depths.push(depth)
    }
    if (child !== undefined) {
      this.#nodes.push(child)
      this.#depths.push(depth)
    }
  }

  /** From the root to the node where `path` ends, or null when there is none. */
  #nodesTo(path: string): TrieNode<V>[] | null {
    let node = this.#root
    const nodes = [node]
    for (let rest = path; ; ) {
      const child = childOf(node, rest)
      if (child === null || commonLength(child.label, rest) < child.label.length) return null
      nodes.push(child)
      if (child.label.length === rest.length) return nodes
      node = child
      rest = rest.slice(child.label.length + 1)
    }
  }

  /** The node where the path of `filter` ends, made when there is none. */
  #nodeFor(filter: string): TrieNode<V> {
    let node = this.#root
    for (let rest = pathOf(filter); ; ) {
      let child = childOf(node, rest)
      if (child === null) {
        child = new TrieNode<V>(ownCopy(rest, filter))
        node.attach(child)
        this.#nodeCount++
        return child
      }
      const common = commonLength(child.label, rest)
      if (common < child.label.length) child = this.#split(node, child, common)
      if (common === rest.length) return child
      node = child
      rest = rest.slice(common + 1)
    }
  }

  /** Gives the first `length` characters of the label of `lower` to a node of their own above it. */
  #split(parent: TrieNode<V>, lower: TrieNode<V>, length: number): TrieNode<V> {
    const { label } = lower
    const upper = new TrieNode<V>(ownCopy(label.slice(0, length), label))
    parent.replace(lower, upper)
    lower.label = ownCopy(label.slice(length + 1), label)
    lower.levelCount -= upper.levelCount
    upper.attach(lower)
    this.#nodeCount++
    return upper
  }

  /** After the last of `nodes` has lost a filter: no node without filter stays unless ways part there. */
  #tidy(nodes: TrieNode<V>[]): void {
    for (let depth = nodes.length - 1; depth > 0; depth--) {
      const node = nodes[depth]!
      const parent = nodes[depth - 1]!
      if (!node.hasNoFilter) return
      const { onlyChild } = node
      if (onlyChild !== null) {
        const label = `${node.label}/${onlyChild.label}`
        onlyChild.label = ownCopy(label, label)
        onlyChild.levelCount += node.levelCount
        parent.replace(node, onlyChild)
      } else if (node.plus === null && node.children === null) parent.detach(node)
      else return
      this.#nodeCount--
    }
  }
}

function isMultiLevel(filter: string): boolean {
  return filter.endsWith('#')
}

/** The levels of `filter` without a `#`, of which there is one at least, if it is not `#` alone. */
function pathOf(filter: string): string {
  return isMultiLevel(filter) ? filter.slice(0, -2) : filter
}

function firstLevel(path: string): string {
  const slash = path.indexOf('/')
  return slash === -1 ? path : path.slice(0, slash)
}

function startsWithLevel(path: string, level: string): boolean {
  return path.startsWith(level) && (path.length === level.length || path.charCodeAt(level.length) === SLASH)
}

function childOf<V>(node: TrieNode<V>, path: string): TrieNode<V> | null {
  return path.charCodeAt(0) === PLUS ? node.plus : (node.child(firstLevel(path)) ?? null)
}

function countLevels(path: string): number {
  let count = 1
  for (let slash = path.indexOf('/'); slash !== -1; slash = path.indexOf('/', slash + 1)) count++
  return count
}

/** Length of the levels that two paths begin with in common, without the slash behind them. Their first level is known to be equal. */
function commonLength(a: string, b: string): number {
  const shorter = Math.min(a.length, b.length)
  let common = 0
  for (let at = 0; at < shorter; at++) {
    if (a.charCodeAt(at) !== b.charCodeAt(at)) return common
    if (a.charCodeAt(at) === SLASH) common = at
  }
  const isWhole = (path: string): boolean => path.length === shorter || path.charCodeAt(shorter) === SLASH
  return isWhole(a) && isWhole(b) ? shorter : common
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

/** Whether the levels of `topic` from `depth` on begin with those of `label`. The topic has that many. */
function labelMatches(label: string, topic: string, starts: readonly number[], depth: number): boolean {
  const { length } = label
  for (let at = 0; at <= length; at++, depth++) {
    if (label.charCodeAt(at) === PLUS) {
      at++
      continue
    }
    const end = starts[depth + 1]! - 1
    for (let t = starts[depth]!; t < end; t++, at++) if (label.charCodeAt(at) !== topic.charCodeAt(t)) return false
    if (at < length && label.charCodeAt(at) !== SLASH) return false
  }
  return true
}
