import { conn } from './emqtt/conn.ts'
import { pub } from './emqtt/pub.ts'
import { sub } from './emqtt/sub.ts'
import { loadHelp, parseLoadFlags, UsageError } from './flags.ts'
import type { Output } from './output.ts'
import { resultText } from './report.ts'
import { runScenario } from './run.ts'
import { scenarios } from './scenarios.ts'

const emqttCommands = new Map([
  ['conn', conn],
  ['pub', pub],
  ['sub', sub],
])

/** What `millrace bench` calls. @returns the exit code: 0, 1 the run failed or lost messages, 2 the command line is wrong */
export async function runLoad(argv: readonly string[], output: Output): Promise<number> {
  const [name, ...flags] = argv
  if (name === undefined || name === '--help' || name === 'help') {
    output.out(loadHelp())
    return name === undefined ? 2 : 0
  }
  try {
    const command = emqttCommands.get(name)
    if (command) return await command(flags, output)
    return await runNamed(name, flags, output)
  } catch (error) {
    output.err(`${error instanceof Error ? error.message : String(error)}\n`)
    return error instanceof UsageError ? 2 : 1
  }
}

async function runNamed(name: string, flags: readonly string[], output: Output): Promise<number> {
  const scenario = scenarios.find(candidate => candidate.name === name)
  if (!scenario)
    throw new UsageError(`unknown scenario ${name}: ${[...scenarios.map(one => one.name), ...emqttCommands.keys()].join(', ')}`)
  const { options, json, help } = parseLoadFlags(scenario, flags)
  if (help) {
    output.out(loadHelp())
    return 0
  }
  const result = await runScenario(scenario, options)
  output.out(json ? `${JSON.stringify(result)}\n` : `${resultText(result)}\n`)
  return result.lost > 0 ? 1 : 0
}
