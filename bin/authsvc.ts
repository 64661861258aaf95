import { hostname } from 'node:os'
import { systemSurroundings } from '#shared/config/load-broker-settings.ts'
import { AUTHSVC_SETTINGS, loadAuthsvcSettings } from '#shared/config/load-role-settings.ts'
import { flagsHelp } from '#shared/config/settings-page.ts'
import { openLog } from '#shared/telemetry/log.ts'
import { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { startAuthsvcRole } from './authsvc-role.ts'
import type { Command } from './command.ts'
import { runProgram } from './program.ts'

/** `millrace authsvc` */
export const authsvc: Command = {
  help: () => `Usage: millrace authsvc --redis URL [FLAGS]

Starts one authentication service of a cluster. In this version it is a member of the cluster and decides nothing: ports without
authenticationRef let every client in, those with one stay closed. Every flag has an environment variable: --cluster-name is
MILLRACE_CLUSTER_NAME. SIGTERM and SIGINT end it with exit code 0.

${flagsHelp(AUTHSVC_SETTINGS)}`,
  run: args => {
    const { settings, warnings } = loadAuthsvcSettings(args, { ...systemSurroundings(process.env), hostName: hostname() })
    const log = openLog(settings.logLevel)
    for (const warning of warnings) log.warn('setting_without_effect', { detail: warning })
    const registry = new MetricsRegistry([['host', settings.id]])
    return runProgram({
      name: 'authsvc',
      admin: null,
      metrics: settings.metrics,
      drainDelayMs: 0,
      drainTimeoutMs: settings.limits.drainTimeoutMs,
      log,
      registry,
      start: () => startAuthsvcRole(settings, log, registry),
    })
  },
}
