import type { Timers } from '#shared/base/timers.ts'
import { KubernetesUnavailable } from '#shared/kubernetes/kubernetes-access.ts'
import type { KubernetesAccess, TokenReview } from '#shared/kubernetes/kubernetes-access.ts'
import { Breaker } from './breaker.ts'

/** The API server, left alone for a while when it is away: a client that it would keep waiting in vain is told so at once. */
export class GuardedKubernetes implements KubernetesAccess {
  readonly #kubernetes: KubernetesAccess
  readonly #timers: Timers
  readonly #breaker = new Breaker()

  constructor(kubernetes: KubernetesAccess, timers: Timers) {
    this.#kubernetes = kubernetes
    this.#timers = timers
  }

  async reviewToken(token: string, audiences: readonly string[]): Promise<TokenReview> {
    return await this.#guarded(() => this.#kubernetes.reviewToken(token, audiences))
  }

  async serviceAccountAnnotations(namespace: string, name: string): Promise<ReadonlyMap<string, string> | null> {
    return await this.#guarded(() => this.#kubernetes.serviceAccountAnnotations(namespace, name))
  }

  /** Nobody waits for these. */
  async publishedKeys(): Promise<string> {
    return await this.#kubernetes.publishedKeys()
  }

  async #guarded<T>(call: () => Promise<T>): Promise<T> {
    const attempt = this.#breaker.begin(this.#timers.nowMs())
    if (attempt === null) throw new KubernetesUnavailable('Kubernetes API: it did not answer several times and is left alone for a while')
    let outcome: 'reached' | 'failed' = 'failed'
    try {
      const answer = await call()
      outcome = 'reached'
      return answer
    } finally {
      this.#breaker.end(attempt, outcome, this.#timers.nowMs())
    }
  }
}
