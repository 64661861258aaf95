import type { AuthorizationRule } from '#shared/resources/broker-authorization.ts'
import type { Subject } from './template.ts'

export type Principals = AuthorizationRule['principals']

/** A rule that applies to a client, and the principal that made it so, as it stands in the rule: `clientIds: pump-1`. */
export interface AppliedRule<R> {
  readonly rule: R
  readonly principal: string
}

interface Place<R> {
  /** Of the rule in its policy. */
  readonly order: number
  readonly rule: R
}

interface AttributePlace<R> extends Place<R> {
  readonly pairs: readonly (readonly [name: string, value: string])[]
}

/**
 * Rules by their principals: to find those of a client costs about as much as it has, however many there are. An element of `attributes`
 * stands under that one of its pairs which the fewest elements have: with `organization: contoso` in each rule, the other pair decides.
 */
export class RuleIndex<R extends { readonly principals: Principals }> {
  readonly #byClientId = new Map<string, Place<R>[]>()
  readonly #byUserName = new Map<string, Place<R>[]>()
  readonly #byAttribute = new Map<string, Map<string, AttributePlace<R>[]>>()

  constructor(rules: readonly R[]) {
    const elements: AttributePlace<R>[] = []
    for (const [order, rule] of rules.entries()) {
      const place = { order, rule }
      const { principals } = rule
      for (const clientId of principals.clientIds ?? []) listAt(this.#byClientId, clientId).push(place)
      for (const userName of principals.usernames ?? []) listAt(this.#byUserName, userName).push(place)
      for (const element of principals.attributes ?? []) elements.push({ ...place, pairs: Object.entries(element) })
    }
    const counts = countPairs(elements)
    // Without a pair an element would hold for everybody: it holds for nobody.
    for (const element of elements) {
      if (element.pairs.length === 0) continue
      const [name, value] = rarest(element.pairs, counts)
      listAt(valuesOf(this.#byAttribute, name), value).push(element)
    }
  }

  /** The rules of a client in their order, each once. */
  of({ clientId, userName, attributes }: Subject): readonly AppliedRule<R>[] {
    const applied = new Map<number, AppliedRule<R>>()
    const apply = ({ order, rule }: Place<R>, principal: string): void => {
      if (!applied.has(order)) applied.set(order, { rule, principal })
    }
    for (const place of this.#byClientId.get(clientId) ?? []) apply(place, `clientIds: ${clientId}`)
    if (userName !== '') for (const place of this.#byUserName.get(userName) ?? []) apply(place, `usernames: ${userName}`)
    for (const [name, value] of attributes) {
      for (const place of this.#byAttribute.get(name)?.get(value) ?? []) {
        if (!applied.has(place.order) && place.pairs.every(([key, wanted]) => attributes.get(key) === wanted))
          apply(place, `attributes: ${pairsText(place.pairs)}`)
      }
    }
    return [...applied].sort(([a], [b]) => a - b).map(([, rule]) => rule)
  }
}

/** Attributes as an operator reads them: `NAME=VALUE, …`. */
export function pairsText(pairs: readonly (readonly [string, string])[]): string {
  return pairs.map(([name, value]) => `${name}=${value}`).join(', ')
}

function countPairs<R>(elements: readonly AttributePlace<R>[]): Map<string, Map<string, number>> {
  const counts = new Map<string, Map<string, number>>()
  for (const { pairs } of elements) {
    for (const [name, value] of pairs) {
      const values = valuesOf(counts, name)
      values.set(value, (values.get(value) ?? 0) + 1)
    }
  }
  return counts
}

function rarest(
  pairs: readonly (readonly [name: string, value: string])[],
  counts: ReadonlyMap<string, ReadonlyMap<string, number>>,
): readonly [name: string, value: string] {
  const countOf = ([name, value]: readonly [string, string]): number => counts.get(name)?.get(value) ?? 0
  return pairs.reduce((best, pair) => (countOf(pair) < countOf(best) ? pair : best))
}

function listAt<V>(map: Map<string, V[]>, key: string): V[] {
  let list = map.get(key)
  if (list === undefined) map.set(key, (list = []))
  return list
}

function valuesOf<V>(map: Map<string, Map<string, V>>, name: string): Map<string, V> {
  let values = map.get(name)
  if (values === undefined) map.set(name, (values = new Map()))
  return values
}
