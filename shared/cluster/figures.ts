/** What several processes count, added up name by name. */
export function sumOfFigures(all: Iterable<ReadonlyMap<string, number>>): Map<string, number> {
  const sum = new Map<string, number>()
  for (const figures of all) {
    for (const [name, value] of figures) sum.set(name, (sum.get(name) ?? 0) + value)
  }
  return sum
}
