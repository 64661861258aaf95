import { hostname } from 'node:os'
import packageJson from '../package.json' with { type: 'json' }
import { addressText } from '#shared/config/address.ts'
import { limitSettings } from '#shared/config/broker-settings.ts'
import { loadBrokerSettings, START_SETTINGS, systemSurroundings } from '#shared/config/load-broker-settings.ts'
import type { PlannedPort } from '#shared/config/port-settings.ts'
import { flagsHelp } from '#shared/config/settings-page.ts'
import { openLog } from '#shared/telemetry/log.ts'
import { MetricsRegistry } from '#shared/telemetry/metrics.ts'
import { logOpenFilesLimit, openFilesMax } from '#shared/telemetry/open-files.ts'
import { type Command, print } from './command.ts'
import { openLiveSettings } from './open-live-settings.ts'
import { type OwnPorts, runProgram } from './program.ts'
import type { RunningRole } from './roles/running-role.ts'
import { startStandalone } from './roles/standalone.ts'

/** `millrace start` */
export const start: Command = {
  help: () => `Usage: millrace start [FLAGS]

Starts the whole broker in this process. Every flag has an environment variable: --connections-max is MILLRACE_CONNECTIONS_MAX.
SIGTERM and SIGINT drain: clients are disconnected, the store is flushed, the exit code is 0. A second signal exits at once.

${flagsHelp(START_SETTINGS)}`,
  run: async args => {
    const log = openLog('info')
    const live = await openLiveSettings(START_SETTINGS, args, log, snapshot =>
      loadBrokerSettings(args, systemSurroundings(process.env, snapshot)),
    )
    const { settings } = live
    logOpenFilesLimit(log, openFilesMax(), { max: settings.limits.connectionsMax, default: limitSettings.connectionsMax.default })
    const registry = new MetricsRegistry([['host', hostname()]])
    return runProgram({
      name: 'start',
      admin: settings.admin,
      metrics: settings.metrics,
      drainDelayMs: settings.limits.drainDelayMs,
      drainTimeoutMs: settings.limits.drainTimeoutMs,
      log,
      registry,
      start: () => startStandalone(live, log, registry),
      stopWatching: () => live.stop(),
      greet: (role, ports) => greet(role, ports, settings.ports),
    })
  },
}

function greet({ addresses }: RunningRole, { admin, metrics }: OwnPorts, planned: readonly PlannedPort[]): void {
  print(`Millrace ${packageJson.version}`)
  for (const { address, protocol, tls, closedReason } of addresses) {
    const speaks = `MQTT${protocol === 'WebSockets' ? ' over WebSocket' : ''}${tls ? ' over TLS' : ''}`
    print(`  ${`${speaks}:`.padEnd(30)}${address}${closedReason === null ? '' : ` closed: ${closedReason}`}`)
  }
  if (admin !== null) print(`  ${'Dashboard and admin API:'.padEnd(30)}http://${addressText(admin)}/`)
  if (metrics !== null) print(`  ${'Metrics and health:'.padEnd(30)}http://${addressText(metrics)}/metrics`)
  const isOpenToAll = new Set(planned.filter(({ rules }) => rules.policy === null).map(({ name }) => name))
  const first = addresses.find(
    ({ name, protocol, tls, closedReason }) => protocol === 'Mqtt' && !tls && closedReason === null && isOpenToAll.has(name),
  )
  const port = first?.address.slice(first.address.lastIndexOf(':') + 1)
  if (port !== undefined) print(`Try:  mosquitto_sub -p ${port} -t 'hello/#' -v &  mosquitto_pub -p ${port} -t hello/world -m hi`)
}
