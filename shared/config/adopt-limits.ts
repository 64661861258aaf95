import type { Log } from '../telemetry/log.ts'
import type { BrokerLimits } from './broker-settings.ts'

/** Read once when the process starts: another value holds from the next start on. */
const AT_START: ReadonlySet<keyof BrokerLimits> = new Set([
  'shards',
  'topicLevelsMax',
  'connectionsMax',
  'unauthenticatedPerAddressMax',
  'connectDeadlineMs',
  'memoryBytesMax',
  'memoryWatermarkPercent',
  'drainDelayMs',
  'drainTimeoutMs',
  'authWorkerThreads',
  'authWorkerQueueMax',
  'authRequestsMax',
])

/** Makes `live`, which all parts of the process read from, say what `next` says. What is read only at the start is named in the log. */
export function adoptLimits(live: BrokerLimits, next: BrokerLimits, log: Log): void {
  const changed = (Object.keys(next) as (keyof BrokerLimits)[]).filter(name => live[name] !== next[name])
  const late = changed.filter(name => AT_START.has(name))
  for (const setting of late) log.warn('setting_needs_restart', { setting })
  Object.assign(live, Object.fromEntries(changed.filter(name => !AT_START.has(name)).map(name => [name, next[name]])))
}
