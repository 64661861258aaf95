import packageJson from '../package.json' with { type: 'json' }
import { SettingsError } from '#shared/config/settings-error.ts'
import { suggestion } from '#shared/config/nearest.ts'
import { type Command, ExitCode, print } from './command.ts'
import { notAvailable } from './not-available.ts'
import { pki } from './pki.ts'
import { start } from './start.ts'

const COMMANDS = new Map<string, Command>([
  ['start', start],
  ['pki', pki],
  ['frontend', notAvailable('frontend', 'one frontend of a cluster')],
  ['authsvc', notAvailable('authsvc', 'one authentication service of a cluster')],
  ['backend', notAvailable('backend', 'one backend of a cluster')],
  ['cluster', notAvailable('cluster', 'a whole cluster on this machine')],
  ['validate', notAvailable('validate', 'check a directory of resources')],
  ['explain', notAvailable('explain', 'why a client may or may not do something')],
  ['bench', notAvailable('bench', 'load generator')],
])

function help(): string {
  const commands = [...COMMANDS].map(([name, { summary }]) => `  ${name.padEnd(10)}${summary}`)
  return `Usage: millrace COMMAND [FLAGS]

Commands:
${commands.join('\n')}

  millrace COMMAND --help   what the command takes
  millrace --version        version`
}

async function run([name, ...args]: readonly string[]): Promise<number> {
  if (name === '--version' || name === '-v') return say(packageJson.version)
  if (name === '--help' || name === '-h' || name === 'help') return say(help())
  if (name === undefined) return refuse(help())
  const command = COMMANDS.get(name)
  if (command === undefined) {
    const what = name.startsWith('-') ? 'flag' : 'command'
    return refuse(`millrace: there is no ${what} ${name}${suggestion(name, COMMANDS.keys())}; commands: ${[...COMMANDS.keys()].join(', ')}`)
  }
  if (args.includes('--help') || args.includes('-h')) return say(command.help())
  try {
    return await command.run(args)
  } catch (error) {
    if (error instanceof SettingsError) return refuse(error.faults.map(fault => `millrace ${name}: ${fault}`).join('\n'))
    throw error
  }
}

function say(text: string): number {
  print(text)
  return ExitCode.Success
}

function refuse(text: string): number {
  process.stderr.write(`${text}\n`)
  return ExitCode.Usage
}

// The launcher of an old Node cannot replace itself with us and holds this channel open instead: when it is gone, so are we.
if (process.env['MILLRACE_LAUNCHER'] === 'ipc' && process.channel !== undefined) {
  delete process.env['MILLRACE_LAUNCHER']
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'))
  process.channel.unref()
}
// A reader that goes away (`millrace --help | head`) is no failure of ours.
process.stdout.on('error', () => undefined)
process.exitCode = await run(process.argv.slice(2))
