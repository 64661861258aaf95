import { systemClock } from '#shared/base/clock.ts'
import { systemRandom } from '#shared/base/random.ts'
import { systemTimers } from '#shared/base/timers.ts'
import { type KubernetesAccess, KubernetesUnavailable } from '#shared/kubernetes/kubernetes-access.ts'
import type { ResourceSnapshot } from '#shared/resources/resource-snapshot.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { Authentications } from '../authsvc/authentications.ts'
import { METHOD_MAKERS } from '../authsvc/methods/makers.ts'
import { type Workers, WorkersBusy } from '../authsvc/worker/workers.ts'

const SILENT: Log = { debugEnabled: false, debug: nothing, info: nothing, warn: nothing, error: nothing }

/** Nobody is authenticated here. */
const NO_WORKERS: Workers = { run: () => Promise.reject(new WorkersBusy()), close: () => Promise.resolve() }

/** Whether there will be an API server, the directory does not say. */
const NO_KUBERNETES: KubernetesAccess = { reviewToken: unavailable, serviceAccountAnnotations: unavailable, publishedKeys: unavailable }

/**
 * What is inside the Secrets and ConfigMaps that BrokerAuthentications refer to, read as an authentication service reads it: users that are
 * there twice, passwords in clear text, no certificate where one belongs. A line for each, without a word of the content itself.
 */
export function brokenContent(snapshot: ResourceSnapshot): readonly string[] {
  const authentications = new Authentications({
    makers: METHOD_MAKERS,
    shared: {
      clock: systemClock,
      timers: systemTimers,
      random: systemRandom,
      log: SILENT,
      workers: NO_WORKERS,
      kubernetes: NO_KUBERNETES,
    },
    timers: systemTimers,
    log: SILENT,
  })
  try {
    authentications.apply(snapshot)
    return [...authentications.broken(snapshot)].map(({ where, name, fault }) => `${where}: BrokerAuthentication ${name}: ${fault}`)
  } finally {
    authentications.close()
  }
}

function nothing(): void {
  // What it would say is what `brokenContent` answers.
}

function unavailable(): Promise<never> {
  return Promise.reject(new KubernetesUnavailable('nobody is asked'))
}
