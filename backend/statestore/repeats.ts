import type { RequestAnswered } from './changes.ts'
import type { RequestOrigin } from './store-request.ts'

/** Heap of one beside its answer, about. */
const ANSWER_BYTES = 250

/** What one frontend has asked and may ask again. */
interface Answers {
  settledBefore: number
  /** By sequence, in the order of execution. */
  readonly bySequence: Map<number, RequestAnswered>
}

/**
 * Answers to requests that changed something, or might have, until their frontend has them: a request that comes again after a failover,
 * because its answer was lost, gets the first answer again. Executed again, a SET NX would tell the client that holds a lock that somebody
 * else does; and one that was in vain would take the lock after its client was told that somebody else has it.
 */
export class Repeats {
  readonly #answersMax: number
  readonly #frontends = new Map<string, Answers>()
  /** Answers that are remembered, and their memory. */
  size = 0
  bytes = 0

  /** @param answersMax of one frontend; one more, and the oldest is forgotten */
  constructor(answersMax: number) {
    this.#answersMax = answersMax
  }

  /** The first answer; `stale`: a late copy of a request that is settled; null: a request that has to be executed. */
  find(origin: RequestOrigin): RequestAnswered | 'stale' | null {
    const answers = this.#frontends.get(origin.frontend)
    if (answers === undefined) return null
    this.#settle(answers, origin.settledBefore)
    if (origin.sequence < answers.settledBefore) return 'stale'
    return answers.bySequence.get(origin.sequence) ?? null
  }

  /**
   * One that is settled meanwhile is not remembered. True: another one was forgotten before its frontend had settled it; asked again it would be
   * executed again.
   */
  remember(answered: RequestAnswered): boolean {
    const { frontend, sequence, settledBefore } = answered.origin
    let answers = this.#frontends.get(frontend)
    if (answers === undefined) this.#frontends.set(frontend, (answers = { settledBefore: 0, bySequence: new Map() }))
    this.#settle(answers, settledBefore)
    if (sequence < answers.settledBefore) return false
    this.#drop(answers, sequence)
    answers.bySequence.set(sequence, answered)
    this.size++
    this.bytes += ANSWER_BYTES + answered.answer.length
    if (answers.bySequence.size <= this.#answersMax) return false
    for (const oldest of answers.bySequence.keys()) {
      this.#drop(answers, oldest)
      break
    }
    return true
  }

  /** False: nothing of it was known. */
  forget(frontend: string): boolean {
    const answers = this.#frontends.get(frontend)
    if (answers === undefined) return false
    this.#settle(answers, Infinity)
    return this.#frontends.delete(frontend)
  }

  frontends(): Iterable<string> {
    return this.#frontends.keys()
  }

  all(): readonly RequestAnswered[] {
    return [...this.#frontends.values()].flatMap(({ bySequence }) => [...bySequence.values()])
  }

  /** Sequences come nearly in order: what stands behind one that is not settled yet waits for it, which `answersMax` bounds. */
  #settle(answers: Answers, settledBefore: number): void {
    if (settledBefore <= answers.settledBefore) return
    answers.settledBefore = settledBefore
    for (const sequence of answers.bySequence.keys()) {
      if (sequence >= settledBefore) return
      this.#drop(answers, sequence)
    }
  }

  #drop({ bySequence }: Answers, sequence: number): void {
    const answered = bySequence.get(sequence)
    if (answered === undefined) return
    bySequence.delete(sequence)
    this.size--
    this.bytes -= ANSWER_BYTES + answered.answer.length
  }
}
