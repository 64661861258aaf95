import type { Engine } from '../engine.ts'
import { loseLink, onDetach } from '../handlers/attach.ts'
import type { Session } from '../session/session.ts'
import type { Shard } from '../shard/shard.ts'

/** A frontend whose link broke may come back with its connections for so long. */
const LINK_WAIT_MS = 1_500
/** After a shard was taken over: until every frontend that lives has found its new owner. Longer than the lease of one that died. */
const TAKEN_WAIT_MS = 5_000
/** A frontend that has resumed its connections may still repeat the attach of one that it had no answer for. */
const RESUMED_WAIT_MS = 500

interface Batch {
  readonly dueMs: number
  readonly sessions: { readonly session: Session; readonly connection: number; readonly frontend: string }[]
}

/**
 * Sessions whose client is connected as far as anybody knows, while there is no link to its frontend: after a link broke, and after the
 * shard came from another backend. Either their frontend resumes them, or the connection counts as lost (§3.1.2.5).
 */
export class Awaiting {
  readonly #engine: Engine
  #batches: Batch[] = []

  constructor(engine: Engine) {
    this.#engine = engine
  }

  linksLost(sessions: Iterable<Session>): void {
    this.#await([...sessions], LINK_WAIT_MS)
  }

  shardTaken(shard: Shard): void {
    this.#await(
      [...shard.sessions.values()].filter(({ isConnected }) => isConnected),
      TAKEN_WAIT_MS,
    )
  }

  /** `frontend` has resumed all that it has of this shard: what it did not name is lost soon. */
  resumedBy(shard: Shard, frontend: string): void {
    const left = [...shard.sessions.values()].filter(
      session => session.isConnected && session.link === null && session.frontend === frontend,
    )
    this.#await(left, RESUMED_WAIT_MS)
  }

  /** A few times a second. */
  tick(): void {
    if (this.#batches.length === 0) return
    const nowMs = this.#engine.clock.monotonicMs()
    const due = this.#batches.filter(({ dueMs }) => dueMs <= nowMs)
    if (due.length === 0) return
    this.#batches = this.#batches.filter(({ dueMs }) => dueMs > nowMs)
    for (const { sessions } of due) {
      for (const { session, connection, frontend } of sessions) {
        const isStillLost =
          session.isConnected && session.link === null && session.connection === connection && session.frontend === frontend
        if (!isStillLost || session.hasEnded || !this.#engine.shards[session.shard]!.isServing) continue
        onDetach(this.#engine, session, { discardWill: false, sessionExpirySeconds: null })
      }
    }
  }

  #await(sessions: readonly Session[], waitMs: number): void {
    for (const session of sessions) loseLink(session)
    if (sessions.length === 0) return
    const waiting = sessions.map(session => ({ session, connection: session.connection, frontend: session.frontend }))
    this.#batches.push({ dueMs: this.#engine.clock.monotonicMs() + waitMs, sessions: waiting })
  }
}
