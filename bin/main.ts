import { enableCompileCache } from 'node:module'
import { fileURLToPath } from 'node:url'
import packageJson from '../package.json' with { type: 'json' }
import { suggestion } from '#shared/config/nearest.ts'
import { SettingsError } from '#shared/config/settings-error.ts'
import { type Command, ExitCode, print } from './command.ts'
import { acceptSupervision } from './processes/supervision.ts'

interface Entry {
  /** One line for the list of commands. */
  readonly summary: string
  /** A command's sources are read when it is called: `--help` needs no store. */
  readonly load: () => Promise<Command>
}

const COMMANDS = new Map<string, Entry>([
  ['start', { summary: 'the whole broker in one process', load: async () => (await import('./start.ts')).start }],
  ['pki', { summary: 'certificates for development: an authority, a server, a client', load: async () => (await import('./pki.ts')).pki }],
  ['passwd', { summary: 'entry of a user for the methods Password and Scram', load: async () => (await import('./passwd.ts')).passwd }],
  ['frontend', { summary: 'one frontend of a cluster', load: async () => (await import('./frontend.ts')).frontend }],
  ['authsvc', { summary: 'one authentication service of a cluster', load: async () => (await import('./authsvc.ts')).authsvc }],
  ['backend', { summary: 'one backend of a cluster', load: async () => (await import('./backend.ts')).backend }],
  ['cluster', { summary: 'a whole cluster on this machine', load: async () => (await import('./cluster.ts')).cluster }],
  ['validate', { summary: 'check a directory of resources', load: async () => (await import('./validate.ts')).validate }],
  ['explain', { summary: 'why a client may or may not do something', load: async () => (await import('./explain.ts')).explain }],
  ['state', { summary: 'keys and values of the state store of a broker', load: async () => (await import('./state.ts')).state }],
  ['bench', { summary: 'load generator', load: async () => (await import('./bench.ts')).bench }],
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
  const entry = COMMANDS.get(name)
  if (entry === undefined) {
    const what = name.startsWith('-') ? 'flag' : 'command'
    return refuse(`millrace: there is no ${what} ${name}${suggestion(name, COMMANDS.keys())}; commands: ${[...COMMANDS.keys()].join(', ')}`)
  }
  const command = await entry.load()
  if (command.help !== null && (args.includes('--help') || args.includes('-h'))) return say(command.help())
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

// Who started us and cannot be replaced by us (the launcher under an old Node, a supervisor) holds this channel open: when it is gone, so are we.
const launcher = process.env['MILLRACE_LAUNCHER']
delete process.env['MILLRACE_LAUNCHER']
if ((launcher === 'ipc' || launcher === 'supervisor') && process.channel !== undefined) {
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'))
  process.channel.unref()
  if (launcher === 'supervisor') acceptSupervision()
}
// Stripping types takes longer than everything else at start. Where the folder cannot be written nothing is kept.
enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/millrace', import.meta.url)))
// A reader that goes away (`millrace --help | head`) is no failure of ours.
process.stdout.on('error', () => undefined)
process.exitCode = await run(process.argv.slice(2))
