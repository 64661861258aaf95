import { createHash, type Hash } from 'node:crypto'
import type { AuthenticationMethodSpec } from '#shared/resources/broker-authentication.ts'
import type { ResourceSnapshot } from '#shared/resources/resource-snapshot.ts'
import type { AuthenticationMethod, MethodParts } from './methods/authentication-method.ts'
import type { MethodMaker } from './methods/makers.ts'

/** Something of a snapshot that a method was made from, besides its settings. */
type Asked =
  | { readonly kind: 'ConfigMap'; readonly name: string }
  | { readonly kind: 'Secret'; readonly name: string }
  | { readonly kind: 'ServiceAccount'; readonly namespace: string; readonly name: string }

/** Of content that is not there. */
const ABSENT = 'absent'
/** Hexadecimal digits. */
const FINGERPRINT_LENGTH = 32

/** What all methods get besides what they find in the resources. */
export type SharedParts = Omit<MethodParts, 'configMap' | 'secret' | 'serviceAccount' | 'hasLaterOfSameMethod'>

/** Remembers what was asked for of the resources, and what it was. */
export class AskedContent {
  readonly #asked = new Map<string, { readonly asked: Asked; readonly fingerprint: string }>()

  /** Parts for a maker; what it asks of `snapshot`, also later, is remembered here. */
  partsOf(snapshot: ResourceSnapshot, shared: SharedParts, hasLaterOfSameMethod: boolean): MethodParts {
    const answer = <T extends ReadonlyMap<string, string | Uint8Array>>(asked: Asked, content: T | null): T | null => {
      this.#asked.set(JSON.stringify(asked), { asked, fingerprint: fingerprintOf(content) })
      return content
    }
    return {
      ...shared,
      hasLaterOfSameMethod,
      configMap: name => answer({ kind: 'ConfigMap', name }, snapshot.configMap(name)),
      secret: name => answer({ kind: 'Secret', name }, snapshot.secret(name)),
      serviceAccount: (namespace, name) => answer({ kind: 'ServiceAccount', namespace, name }, snapshot.serviceAccount(namespace, name)),
    }
  }

  /** `snapshot` has the same. */
  isSameIn(snapshot: ResourceSnapshot): boolean {
    for (const { asked, fingerprint } of this.#asked.values()) if (fingerprintOf(contentOf(snapshot, asked)) !== fingerprint) return false
    return true
  }

  /** Something that was asked for is not there. */
  get lacksSomething(): boolean {
    for (const { fingerprint } of this.#asked.values()) if (fingerprint === ABSENT) return true
    return false
  }

  addTo(hash: Hash): void {
    for (const [name, { fingerprint }] of [...this.#asked].sort(([a], [b]) => (a < b ? -1 : 1))) addText(hash, name, fingerprint)
  }
}

/** One method of a list as it is in force. Several versions of a BrokerAuthentication may share it; the last one that lets it go closes it. */
export class MethodEntry {
  readonly method: AuthenticationMethod
  /** The settings: entries of the same text are the same. */
  readonly text: string
  /** Place among the entries of the same method. */
  readonly ordinal: number
  readonly content: AskedContent
  readonly #hasLater: boolean
  #uses = 1

  constructor(plan: EntryPlan, method: AuthenticationMethod, content: AskedContent) {
    this.method = method
    this.text = plan.text
    this.ordinal = plan.ordinal
    this.#hasLater = plan.hasLater
    this.content = content
  }

  /** It is what `plan` would make of `snapshot`. */
  isWhat(plan: EntryPlan, snapshot: ResourceSnapshot): boolean {
    return this.text === plan.text && this.#hasLater === plan.hasLater && this.ordinal === plan.ordinal && this.content.isSameIn(snapshot)
  }

  isSameIn(snapshot: ResourceSnapshot): boolean {
    return this.content.isSameIn(snapshot)
  }

  retain(): void {
    this.#uses++
  }

  release(): void {
    this.#uses--
    if (this.#uses === 0) this.method.close()
  }
}

/** What is to be made at one place of a list. */
export interface EntryPlan {
  readonly spec: AuthenticationMethodSpec
  readonly text: string
  readonly ordinal: number
  readonly hasLater: boolean
}

/** What a list of methods asks for, place by place. */
export function planEntries(specs: readonly AuthenticationMethodSpec[]): EntryPlan[] {
  return specs.map((spec, index) => ({
    spec,
    text: JSON.stringify(spec),
    ordinal: specs.slice(0, index).filter(({ method }) => method === spec.method).length,
    hasLater: specs.slice(index + 1).some(({ method }) => method === spec.method),
  }))
}

/** @throws {MethodFault} as the maker does */
export function makeEntry(
  plan: EntryPlan,
  maker: MethodMaker,
  snapshot: ResourceSnapshot,
  shared: SharedParts,
  content: AskedContent,
): MethodEntry {
  return new MethodEntry(plan, maker(plan.spec, content.partsOf(snapshot, shared, plan.hasLater)), content)
}

function contentOf(snapshot: ResourceSnapshot, asked: Asked): ReadonlyMap<string, string | Uint8Array> | null {
  switch (asked.kind) {
    case 'ConfigMap':
      return snapshot.configMap(asked.name)
    case 'Secret':
      return snapshot.secret(asked.name)
    case 'ServiceAccount':
      return snapshot.serviceAccount(asked.namespace, asked.name)
  }
}

function fingerprintOf(content: ReadonlyMap<string, string | Uint8Array> | null): string {
  if (content === null) return ABSENT
  const hash = createHash('sha256')
  for (const [name, value] of [...content].sort(([a], [b]) => (a < b ? -1 : 1))) addText(hash, name, value)
  return hash.digest('hex').slice(0, FINGERPRINT_LENGTH)
}

/** Each with its length before it: no two lists of texts are the same bytes. */
function addText(hash: Hash, ...texts: readonly (string | Uint8Array)[]): void {
  for (const text of texts) hash.update(`${typeof text === 'string' ? Buffer.byteLength(text) : text.length}:`).update(text)
}
