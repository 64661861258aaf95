/** Rings in a directed graph: one list of members for each group of nodes that reach each other (Tarjan). */
export function findCycles(edges: ReadonlyMap<string, readonly string[]>): readonly (readonly string[])[] {
  const search = new CycleSearch(edges)
  for (const node of edges.keys()) search.visit(node)
  return search.cycles
}

class CycleSearch {
  readonly cycles: string[][] = []
  readonly #edges: ReadonlyMap<string, readonly string[]>
  readonly #order = new Map<string, number>()
  readonly #lowest = new Map<string, number>()
  readonly #open: string[] = []

  constructor(edges: ReadonlyMap<string, readonly string[]>) {
    this.#edges = edges
  }

  visit(node: string): void {
    if (this.#order.has(node)) return
    const order = this.#order.size
    this.#order.set(node, order)
    this.#lowest.set(node, order)
    this.#open.push(node)
    for (const target of this.#edges.get(node) ?? []) {
      this.visit(target)
      if (this.#open.includes(target)) this.#lowest.set(node, Math.min(this.#lowest.get(node)!, this.#lowest.get(target)!))
    }
    if (this.#lowest.get(node) !== order) return
    const group = this.#open.splice(this.#open.indexOf(node))
    if (group.length > 1 || this.#edges.get(node)?.includes(node) === true) this.cycles.push(group)
  }
}
