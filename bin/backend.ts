import { hostname } from 'node:os'
import { systemSurroundings } from '#shared/config/load-broker-settings.ts'
import { BACKEND_SETTINGS, loadBackendSettings } from '#shared/config/load-role-settings.ts'
import { flagsHelp } from '#shared/config/settings-page.ts'
import { openLog } from '#shared/telemetry/log.ts'
import { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { startBackendRole } from './roles/backend-role.ts'
import type { Command } from './command.ts'
import { openLiveSettings } from './open-live-settings.ts'
import { runProgram } from './program.ts'

/** `millrace backend` */
export const backend: Command = {
  help: () => `Usage: millrace backend --redis URL [FLAGS]

Starts one backend of a cluster: it owns a share of the sessions and Retained Messages, and keeps them in Redis. Every flag has an
environment variable: --cluster-name is MILLRACE_CLUSTER_NAME. SIGTERM and SIGINT drain: what it owns goes to other backends, the exit code
is 0. A second signal exits at once. docs/cluster.md describes a cluster.

${flagsHelp(BACKEND_SETTINGS)}`,
  run: async args => {
    const log = openLog('info')
    const live = await openLiveSettings(BACKEND_SETTINGS, args, log, snapshot =>
      loadBackendSettings(args, { ...systemSurroundings(process.env, snapshot), hostName: hostname() }),
    )
    const { settings } = live
    const registry = new MetricsRegistry([['host', settings.id]])
    return runProgram({
      name: 'backend',
      admin: null,
      metrics: settings.metrics,
      drainDelayMs: 0,
      drainTimeoutMs: settings.limits.drainTimeoutMs,
      log,
      registry,
      start: () => startBackendRole(live, log, registry),
      stopWatching: () => live.stop(),
    })
  },
}
