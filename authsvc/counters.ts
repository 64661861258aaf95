/** What came of a request, for metrics: one of a fixed set. */
export const OUTCOMES = ['accepted', 'challenge', 'refused', 'unavailable', 'allowed', 'holds'] as const
export type Outcome = (typeof OUTCOMES)[number]

/** What is asked of the service. */
export const REQUESTS = ['connect', 'reauthenticate', 'authorize', 'recheck'] as const
export type RequestKind = (typeof REQUESTS)[number]

/** What was counted since the start: plain numbers, read by whoever wants to show them. */
export class AuthenticationCounters {
  /** By kind of request and outcome. */
  readonly #answers = new Float64Array(REQUESTS.length * OUTCOMES.length)
  /** By method as BrokerAuthentication spells it, and what it said. */
  readonly #verdicts = new Map<string, Map<string, number>>()
  /** Refused because as many as may be were running and waiting. */
  shed = 0
  /** Not answered within the deadline. */
  late = 0
  /** Asked for a version that did not come in time. */
  versionsMissed = 0
  /** Faults of ours: the client was told to come back later. */
  failures = 0
  /** Seals that did not open. */
  sealsRefused = 0

  answered(request: RequestKind, outcome: Outcome): void {
    this.#answers[REQUESTS.indexOf(request) * OUTCOMES.length + OUTCOMES.indexOf(outcome)]! += 1
  }

  answersOf(request: RequestKind, outcome: Outcome): number {
    return this.#answers[REQUESTS.indexOf(request) * OUTCOMES.length + OUTCOMES.indexOf(outcome)]!
  }

  /** @param method one of the fixed names; @param verdict of MethodVerdict */
  said(method: string, verdict: string): void {
    const all = this.#verdicts.get(method) ?? new Map<string, number>()
    this.#verdicts.set(method, all)
    all.set(verdict, (all.get(verdict) ?? 0) + 1)
  }

  *verdicts(): Iterable<{ readonly method: string; readonly verdict: string; readonly count: number }> {
    for (const [method, all] of this.#verdicts) for (const [verdict, count] of all) yield { method, verdict, count }
  }
}
