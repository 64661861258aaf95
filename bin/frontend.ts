import { systemTimers } from '#shared/base/timers.ts'
import { limitSettings } from '#shared/config/broker-settings.ts'
import { FRONTEND_SETTINGS, loadFrontendSettings } from '#shared/config/load-role-settings.ts'
import type { FrontendRoleSettings } from '#shared/config/role-settings.ts'
import { flagsHelp } from '#shared/config/settings-page.ts'
import { logOpenFilesLimit, openFilesMax } from '#shared/telemetry/open-files.ts'
import type { Command } from './command.ts'
import { startFrontendRole } from './roles/frontend-role.ts'
import { type FrontendWorkers, startWorkers } from './processes/frontend-workers.ts'
import { type MemberProcess, openMember } from './member-program.ts'
import { runProgram } from './program.ts'

/** `millrace frontend` */
export const frontend: Command = {
  help: () => `Usage: millrace frontend --redis URL [FLAGS]

Starts one frontend of a cluster: clients connect here, backends keep their state. Every flag has an environment variable: --cluster-name is
MILLRACE_CLUSTER_NAME. SIGTERM and SIGINT drain: the ports close, clients are disconnected at a bounded rate, the exit code is 0. A second
signal exits at once. docs/cluster.md describes a cluster.

${flagsHelp(FRONTEND_SETTINGS)}`,
  run: async args => {
    const member = await openMember(args, { groups: FRONTEND_SETTINGS, load: loadFrontendSettings })
    const { log, live } = member
    const { settings } = live
    logOpenFilesLimit(log, openFilesMax(), { max: settings.limits.connectionsMax, default: limitSettings.connectionsMax.default })
    return settings.workers > 1 ? superviseWorkers(args, member) : serve(member)
  },
}

function serve({ live, log, registry }: MemberProcess<FrontendRoleSettings>): Promise<number> {
  const { settings } = live
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

function superviseWorkers(args: readonly string[], { live, log, registry }: MemberProcess<FrontendRoleSettings>): Promise<number> {
  const { settings } = live
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
