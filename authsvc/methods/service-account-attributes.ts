import type { KubernetesAccess } from '#shared/kubernetes/kubernetes-access.ts'
import { ATTRIBUTE_PREFIX, OLD_ATTRIBUTE_PREFIX } from '#shared/resources/attribute-annotations.ts'
import type { MethodParts } from './authentication-method.ts'
import { SharedAnswers } from './shared-answers.ts'

/** A later one wins. */
const PREFIXES = [OLD_ATTRIBUTE_PREFIX, ATTRIBUTE_PREFIX]
/** A crowd of clients of one account asks once; a change is seen at the next authentication after that. */
const KEPT_MS = 1_000
/** Accounts. */
const KEPT_MAX = 1_000
const PENDING_MAX = 256
/** Offline: what an account had when it was last seen counts for so long. */
const LAST_KNOWN_MS = 3_600_000
/** Accounts; for a further one the oldest goes. */
const LAST_KNOWN_MAX = 10_000

interface LastKnown {
  readonly attributes: ReadonlyMap<string, string>
  readonly endMs: number
}

/** Where the attributes of service accounts come from: a ServiceAccount document of `--config`, else the API server. */
export class ServiceAccountAttributes {
  readonly #kubernetes: KubernetesAccess
  readonly #parts: Pick<MethodParts, 'serviceAccount' | 'timers'>
  readonly #answers: SharedAnswers<ReadonlyMap<string, string> | null>
  /** Null: nobody asks for them. */
  readonly #lastKnown: Map<string, LastKnown> | null

  /** @param remembers `lastKnown` will be asked for */
  constructor(kubernetes: KubernetesAccess, parts: Pick<MethodParts, 'serviceAccount' | 'timers'>, remembers: boolean) {
    this.#kubernetes = kubernetes
    this.#parts = parts
    this.#lastKnown = remembers ? new Map() : null
    this.#answers = new SharedAnswers({ timers: parts.timers, keepMs: () => KEPT_MS, keptMax: KEPT_MAX, pendingMax: PENDING_MAX })
  }

  /**
   * Null: there is no such account.
   * @throws {KubernetesUnavailable}, {TooManyCalls}
   */
  async of(namespace: string, name: string): Promise<ReadonlyMap<string, string> | null> {
    const document = this.#parts.serviceAccount(namespace, name)
    if (document !== null) return attributesOf(document)
    const key = `${namespace}/${name}`
    return await this.#answers.get(key, async () => {
      const annotations = await this.#kubernetes.serviceAccountAnnotations(namespace, name)
      // The rest of them may be large, and is not kept.
      const attributes = annotations === null ? null : attributesOf(annotations)
      this.#remember(key, attributes)
      return attributes
    })
  }

  /** Those that the account had when it was last seen, while the API server is away; null: not seen, or too long ago. */
  lastKnown(namespace: string, name: string): ReadonlyMap<string, string> | null {
    const known = this.#lastKnown?.get(`${namespace}/${name}`)
    return known !== undefined && this.#parts.timers.nowMs() < known.endMs ? known.attributes : null
  }

  #remember(key: string, attributes: ReadonlyMap<string, string> | null): void {
    const known = this.#lastKnown
    if (known === null) return
    known.delete(key)
    if (attributes === null) return
    for (const oldest of known.keys()) {
      if (known.size < LAST_KNOWN_MAX) break
      known.delete(oldest)
    }
    known.set(key, { attributes, endMs: this.#parts.timers.nowMs() + LAST_KNOWN_MS })
  }
}

function attributesOf(annotations: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const attributes = new Map<string, string>()
  for (const prefix of PREFIXES) {
    for (const [key, value] of annotations) {
      if (key.startsWith(prefix) && key.length > prefix.length) attributes.set(key.slice(prefix.length), value)
    }
  }
  return attributes
}
