import type { AuthenticationService } from '../../authsvc/authentication-service.ts'
import { OUTCOMES, REQUESTS } from '../../authsvc/counters.ts'
import type { WorkerFigures } from '../../authsvc/worker/workers.ts'
import type { AuthenticationCalls } from '../../frontend/authentication/authentication-calls.ts'
import type { MetricsRegistry, Sample } from '#shared/telemetry/metrics.ts'

/** What an authentication service decides, and what waits for it. Method names and outcomes are of fixed sets. */
export function registerAuthenticationMetrics(
  metrics: MetricsRegistry,
  service: AuthenticationService,
  workers: () => WorkerFigures,
): void {
  const { counters } = service
  metrics.counterFrom('millrace_authentication_requests_total', 'Requests to the authentication service, by what came of them', () =>
    REQUESTS.flatMap(request => OUTCOMES.map(outcome => requestSample(service, request, outcome)).filter(({ value }) => value > 0)),
  )
  metrics.counterFrom('millrace_authentication_verdicts_total', 'What the methods of authentication said', () =>
    Array.from(counters.verdicts(), ({ method, verdict, count }) => ({
      labels: [
        ['method', method],
        ['verdict', verdict],
      ] as const,
      value: count,
    })),
  )
  metrics.gauge('millrace_authentication_open', 'Requests to the authentication service without an answer', () => service.openCount)
  metrics.gauge('millrace_authentication_running', 'Those of them that methods are at work with', () => service.runningCount)
  metrics.gauge('millrace_authentication_version_waiters', 'Requests that wait for a version of a resource', () => service.versionWaiters)
  metrics.counterFrom('millrace_authentication_undecided_total', 'Requests that were not decided, by reason', () => [
    { labels: [['reason', 'overload']], value: counters.shed },
    { labels: [['reason', 'time']], value: counters.late },
    { labels: [['reason', 'version']], value: counters.versionsMissed },
    { labels: [['reason', 'failure']], value: counters.failures },
  ])
  metrics.counterFrom(
    'millrace_authentication_seals_refused_total',
    'Sealed states and proofs that did not open',
    () => counters.sealsRefused,
  )
  metrics.gauge('millrace_authentication_tasks', 'Tasks of the worker threads of authentication', () => [
    { labels: [['state', 'waiting']], value: workers().waiting },
    { labels: [['state', 'running']], value: workers().running },
  ])
  metrics.counterFrom('millrace_authentication_tasks_total', 'Tasks that worker threads have ended', () => workers().completed)
}

function requestSample(
  { counters }: AuthenticationService,
  request: (typeof REQUESTS)[number],
  outcome: (typeof OUTCOMES)[number],
): Sample & { readonly value: number } {
  return {
    labels: [
      ['request', request],
      ['outcome', outcome],
    ],
    value: counters.answersOf(request, outcome),
  }
}

/** How a frontend fares with the authentication services. */
export function registerAuthenticationCallsMetrics(metrics: MetricsRegistry, calls: AuthenticationCalls): void {
  const { counters } = calls
  metrics.gauge('millrace_authentication_services', 'Authentication services that this frontend can ask', () => calls.linkCount)
  metrics.gauge('millrace_authentication_calls_open', 'Requests to authentication services without an answer', () => calls.openCount)
  metrics.counterFrom('millrace_authentication_calls_total', 'Requests to authentication services', () => counters.asked)
  metrics.counterFrom('millrace_authentication_calls_resent_total', 'Requests that were sent to another service', () => counters.resent)
  metrics.counterFrom('millrace_authentication_calls_late_total', 'Answers that nobody waited for any more', () => counters.late)
  metrics.counterFrom('millrace_authentication_calls_unanswered_total', 'Requests that no service has answered', () => [
    { labels: [['reason', 'limit']], value: counters.shed },
    { labels: [['reason', 'time']], value: counters.unanswered },
  ])
}
