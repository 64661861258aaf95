import type { KubernetesAccess } from '#shared/kubernetes/kubernetes-access.ts'
import type { MethodParts } from './authentication-method.ts'
import { SharedAnswers } from './shared-answers.ts'

/** Annotations of a ServiceAccount that are attributes of its clients; the rest of the key is the name. A later prefix wins. */
const PREFIXES = ['aio-mq-broker-auth/', 'aio-broker-auth/']
/** A crowd of clients of one account asks once; a change is seen at the next authentication after that. */
const KEPT_MS = 1_000
/** Accounts. */
const KEPT_MAX = 1_000
const PENDING_MAX = 256
/** Offline: what an account had when it was last seen counts for so long. */
const LAST_KNOWN_MS = 3_600_000
/** Accounts; for a further one the oldest goes. */
const LAST_KNOWN_MAX = 10_000

type Annotations = ReadonlyMap<string, string>

/** Where the attributes of service accounts come from: a ServiceAccount document of `--config`, else the API server. */
export class ServiceAccountAttributes {
  readonly #kubernetes: KubernetesAccess
  readonly #parts: Pick<MethodParts, 'serviceAccount' | 'timers'>
  readonly #answers: SharedAnswers<Annotations | null>
  readonly #lastKnown = new Map<string, { readonly attributes: Annotations; readonly endMs: number }>()

  constructor(kubernetes: KubernetesAccess, parts: Pick<MethodParts, 'serviceAccount' | 'timers'>) {
    this.#kubernetes = kubernetes
    this.#parts = parts
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
    const annotations = await this.#answers.get(key, () => this.#kubernetes.serviceAccountAnnotations(namespace, name))
    const attributes = annotations === null ? null : attributesOf(annotations)
    this.#remember(key, attributes)
    return attributes
  }

  /** Those that the account had when it was last seen, while the API server is away; null: not seen, or too long ago. */
  lastKnown(namespace: string, name: string): ReadonlyMap<string, string> | null {
    const known = this.#lastKnown.get(`${namespace}/${name}`)
    return known !== undefined && this.#parts.timers.nowMs() < known.endMs ? known.attributes : null
  }

  #remember(key: string, attributes: Annotations | null): void {
    this.#lastKnown.delete(key)
    if (attributes === null) return
    for (const oldest of this.#lastKnown.keys()) {
      if (this.#lastKnown.size < LAST_KNOWN_MAX) break
      this.#lastKnown.delete(oldest)
    }
    this.#lastKnown.set(key, { attributes, endMs: this.#parts.timers.nowMs() + LAST_KNOWN_MS })
  }
}

function attributesOf(annotations: Annotations): ReadonlyMap<string, string> {
  const attributes = new Map<string, string>()
  for (const prefix of PREFIXES) {
    for (const [key, value] of annotations) {
      if (key.startsWith(prefix) && key.length > prefix.length) attributes.set(key.slice(prefix.length), value)
    }
  }
  return attributes
}
