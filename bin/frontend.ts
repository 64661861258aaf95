import { hostname } from 'node:os'
import { systemTimers } from '#shared/base/timers.ts'
import { limitSettings } from '#shared/config/broker-settings.ts'
import { systemSurroundings } from '#shared/config/load-broker-settings.ts'
import { FRONTEND_SETTINGS, loadFrontendSettings } from '#shared/config/load-role-settings.ts'
import type { FrontendRoleSettings } from '#shared/config/role-settings.ts'
import { flagsHelp } from '#shared/config/settings-page.ts'
import { type Log, openLog } from '#shared/telemetry/log.ts'
import { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { logOpenFilesLimit, openFilesMax } from '#shared/telemetry/open-files.ts'
import type { LiveSettings } from '#shared/config/live-settings.ts'
import type { Command } from './command.ts'
import { startFrontendRole } from './roles/frontend-role.ts'
import { type FrontendWorkers, startWorkers } from './processes/frontend-workers.ts'
import { openLiveSettings } from './open-live-settings.ts'
import { runProgram } from './program.ts'

/** `millrace frontend` */
export const frontend: Command = {
  help: () => `Usage: millrace frontend --redis URL [FLAGS]

Starts one frontend of a cluster: clients connect here, backends keep their state. Every flag has an environment variable: --cluster-name is
MILLRACE_CLUSTER_NAME. SIGTERM and SIGINT drain: the ports close, clients are disconnected at a bounded rate, the exit code is 0. A second
signal exits at once. docs/cluster.md describes a cluster.

${flagsHelp(FRONTEND_SETTINGS)}`,
  run: async args => {
    const log = openLog('info')
    const live = await openLiveSettings(FRONTEND_SETTINGS, args, log, snapshot =>
      loadFrontendSettings(args, { ...systemSurroundings(process.env, snapshot), hostName: hostname() }),
    )
    const { settings } = live
    logOpenFilesLimit(log, openFilesMax(), { max: settings.limits.connectionsMax, default: limitSettings.connectionsMax.default })
    return settings.workers > 1 ? superviseWorkers(args, live, log) : serve(live, log)
  },
}

function serve(live: LiveSettings<FrontendRoleSettings>, log: Log): Promise<number> {
  const { settings } = live
  const registry = new MetricsRegistry([['host', settings.id]])
  return runProgram({
    name: 'frontend',
    admin: settings.admin,
    metrics: settings.metrics,
    drainDelayMs: settings.limits.drainDelayMs,
    drainTimeoutMs: settings.limits.drainTimeoutMs,
    log,
    registry,
    start: () => startFrontendRole(live, log, registry),
    stopWatching: () => live.stop(),
  })
}

/** Time for the workers to end by themselves before the supervisor's own patience ends. */
const WORKERS_GRACE_MS = 1_000

function superviseWorkers(args: readonly string[], live: LiveSettings<FrontendRoleSettings>, log: Log): Promise<number> {
  const { settings } = live
  const registry = new MetricsRegistry([['host', settings.id]])
  let workers: FrontendWorkers | null = null
  return runProgram({
    name: 'frontend',
    admin: settings.admin,
    metrics: settings.metrics,
    drainDelayMs: settings.limits.drainDelayMs,
    drainTimeoutMs: settings.limits.drainTimeoutMs + WORKERS_GRACE_MS,
    log,
    registry,
    renderMetrics: async () => {
      const own = await registry.render()
      return workers === null ? own : workers.metrics(own)
    },
    start: async () => (workers = await startWorkers(args, settings, log, systemTimers)),
    stopWatching: () => live.stop(),
  })
}
