import type { SessionHandle } from '#shared/rpc/backend-port.ts'
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

interface Waiting {
  readonly session: Session
  /** Another one once its connection is bound to a link again. */
  readonly handle: SessionHandle
}

interface Batch {
  readonly dueMs: number
  readonly waiting: readonly Waiting[]
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
    const nowWallMs = this.#engine.clock.wallMs()
    for (const { waiting } of due) {
      // By the wheel: of a frontend that died, more may be due at once than one turn should spend on them.
      for (const one of waiting) this.#engine.at(nowWallMs, () => this.#giveUp(one))
    }
  }

  #giveUp({ session, handle }: Waiting): void {
    const isStillLost = session.isConnected && session.link === null && session.handle === handle
    if (!isStillLost || session.hasEnded || !this.#engine.shards[session.shard]!.isServing) return
    onDetach(this.#engine, session, { discardWill: false, sessionExpirySeconds: null })
  }

  #await(sessions: readonly Session[], waitMs: number): void {
    for (const session of sessions) {
      loseLink(session)
      this.#engine.cluster!.noteStanding(session)
    }
    if (sessions.length === 0) return
    const waiting = sessions.map(session => ({ session, handle: session.handle }))
    this.#batches.push({ dueMs: this.#engine.clock.monotonicMs() + waitMs, waiting })
  }
}
