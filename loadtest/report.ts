import type { ScenarioResult } from './scenario.ts'

/** One result for people: a few lines, units named. */
export function resultText(result: ScenarioResult): string {
  const lines = [
    `${result.scenario}: QoS ${result.qos}, ${result.sizeBytes} B, window ${result.window}, protocol ${result.protocol}`,
    `  ${count(result.done)} ${result.unit}s in ${result.seconds.toFixed(2)} s = ${count(Math.round(result.perSecond))}/s`,
    `  generator ${result.generatorCpuS.toFixed(2)} s of CPU`,
  ]
  if (result.cpu && result.cpuUs !== null) {
    lines.push(
      `  broker ${result.cpuUs.toFixed(2)} µs of CPU per ${result.unit}` +
        ` (user ${result.cpu.userS.toFixed(2)} s, system ${result.cpu.systemS.toFixed(2)} s)`,
    )
  }
  if (result.latency && result.latency.count > 0) {
    const { p50Us, p99Us, p999Us, maxUs } = result.latency
    lines.push(`  latency p50 ${ms(p50Us)} p99 ${ms(p99Us)} p99.9 ${ms(p999Us)} max ${ms(maxUs)} ms`)
  }
  if (result.rssBytes !== null) lines.push(`  broker RSS ${(result.rssBytes / 1_048_576).toFixed(1)} MiB`)
  for (const [name, value] of Object.entries(result.extra))
    lines.push(`  ${name} ${Number.isInteger(value) ? count(value) : value.toFixed(2)}`)
  if (result.lost > 0) lines.push(`  LOST ${count(result.lost)}`)
  if (result.duplicates > 0) lines.push(`  duplicates or strangers ${count(result.duplicates)}`)
  if (result.disconnects > 0) lines.push(`  connections lost ${count(result.disconnects)}`)
  return lines.join('\n')
}

function count(value: number): string {
  return value.toLocaleString('en-US')
}

function ms(us: number): string {
  return (us / 1_000).toFixed(us < 10_000 ? 3 : 1)
}
