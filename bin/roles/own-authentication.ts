import { availableParallelism } from 'node:os'
import { AuthenticationService } from '../../authsvc/authentication-service.ts'
import { METHOD_MAKERS } from '../../authsvc/methods/makers.ts'
import { Sealing } from '../../authsvc/sealing.ts'
import { openWorkers } from '../../authsvc/worker/piscina-workers.ts'
import type { WorkerFigures } from '../../authsvc/worker/workers.ts'
import { systemClock } from '#shared/base/clock.ts'
import { systemRandom } from '#shared/base/random.ts'
import { systemTimers } from '#shared/base/timers.ts'
import type { BrokerLimits } from '#shared/config/broker-settings.ts'
import type { Log } from '#shared/telemetry/log.ts'
import type { Kubernetes } from '#shared/kubernetes/kubernetes.ts'

/** Of `authWorkerThreads` where it is left to the machine. */
const THREADS_MAX = 4

/** The authentication service that runs in this process. */
export interface OwnAuthentication {
  readonly service: AuthenticationService
  workerFigures(): WorkerFigures
  close(): Promise<void>
}

/**
 * @param secret 32 bytes that the authentication services of a cluster share: what one of them has sealed another one opens
 * @param log rate-limited: clients can cause its lines
 */
export function openAuthentication(limits: BrokerLimits, secret: Uint8Array, kubernetes: Kubernetes, log: Log): OwnAuthentication {
  const threads = limits.authWorkerThreads === 0 ? Math.min(Math.max(1, availableParallelism() - 1), THREADS_MAX) : limits.authWorkerThreads
  const workers = openWorkers({ threads, queueMax: limits.authWorkerQueueMax, timers: systemTimers })
  const service = new AuthenticationService({
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    log,
    workers,
    kubernetes: kubernetes.access,
    makers: METHOD_MAKERS,
    sealing: new Sealing(secret),
    requestsMax: limits.authRequestsMax,
  })
  return {
    service,
    workerFigures: () => workers.figures(),
    close: async () => {
      service.close()
      await workers.close()
    },
  }
}
