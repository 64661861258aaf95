import { hostname } from 'node:os'
import { systemSurroundings } from '#shared/config/load-broker-settings.ts'
import { AUTHSVC_SETTINGS, loadAuthsvcSettings } from '#shared/config/load-role-settings.ts'
import { flagsHelp } from '#shared/config/settings-page.ts'
import { openLog } from '#shared/telemetry/log.ts'
import { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { startAuthsvcRole } from './roles/authsvc-role.ts'
import type { Command } from './command.ts'
import { openLiveSettings } from './open-live-settings.ts'
import { runProgram } from './program.ts'

/** `millrace authsvc` */
export const authsvc: Command = {
  help: () => `Usage: millrace authsvc --redis URL [FLAGS]

Starts one authentication service of a cluster: it tells frontends who a client is and what it may do, as the BrokerAuthentication and
BrokerAuthorization resources say (--config, --kubernetes). Every flag has an environment variable: --cluster-name is MILLRACE_CLUSTER_NAME.
SIGTERM and SIGINT drain: what it was asked is answered, frontends ask others, the exit code is 0. A second signal exits at once.
docs/authentication-service.md describes it.

${flagsHelp(AUTHSVC_SETTINGS)}`,
  run: async args => {
    const log = openLog('info')
    const live = await openLiveSettings(AUTHSVC_SETTINGS, args, log, snapshot =>
      loadAuthsvcSettings(args, { ...systemSurroundings(process.env, snapshot), hostName: hostname() }),
    )
    const { settings } = live
    const registry = new MetricsRegistry([['host', settings.id]])
    return runProgram({
      name: 'authsvc',
      admin: null,
      metrics: settings.metrics,
      drainDelayMs: 0,
      drainTimeoutMs: settings.limits.drainTimeoutMs,
      log,
      registry,
      start: () => startAuthsvcRole(live, log, registry),
      stopWatching: () => live.stop(),
    })
  },
}
