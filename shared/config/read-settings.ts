import { suggestion } from './nearest.ts'
import { Refusal, type Settings, type ValuesOf } from './setting.ts'
import { SettingsError } from './settings-error.ts'

/** Texts that the command line gives to each setting, by its name. */
export type GivenFlags = ReadonlyMap<string, readonly string[]>

export type Environment = Readonly<Record<string, string | undefined>>

/** `connectionsMax` → `--connections-max` */
export function flagName(name: string): string {
  return `--${words(name).join('-')}`
}

/** `connectionsMax` → `MILLRACE_CONNECTIONS_MAX` */
export function variableName(name: string): string {
  return `MILLRACE_${words(name).join('_').toUpperCase()}`
}

function words(name: string): readonly string[] {
  return name.split(/(?=[A-Z])/).map(word => word.toLowerCase())
}

/**
 * Sorts `--flag value`, `--flag=value` and `--switch` by setting.
 * @throws {SettingsError} a flag that does not exist, has no value, or has one it cannot take; anything that is no flag
 */
export function readFlags(declared: Settings, args: readonly string[]): GivenFlags {
  const names = new Map(Object.keys(declared).map(name => [flagName(name), name]))
  const given = new Map<string, string[]>()
  const faults: string[] = []
  for (let index = 0; index < args.length; index++) {
    const [flag, inline] = splitFlag(args[index]!)
    const name = names.get(flag)
    if (name === undefined) {
      faults.push(unknownArgument(flag, names.keys()))
      // Its value, if it has one, is not another mistake.
      if (inline === undefined && flag.startsWith('--') && args[index + 1]?.startsWith('-') === false) index++
      continue
    }
    if (declared[name]!.isSecret) {
      faults.push(`flag ${flag}: a command line is no place for a secret; set ${variableName(name)} in the environment`)
      if (inline === undefined) index++
      continue
    }
    let value = inline
    if (value === undefined) {
      const isSwitch = declared[name]!.placeholder === ''
      value = isSwitch ? 'true' : args[++index]
      if (value === undefined || (!isSwitch && value.startsWith('--'))) {
        faults.push(`flag ${flag}: needs a value: ${flag} ${declared[name]!.placeholder}`)
        if (value !== undefined) index--
        continue
      }
    }
    const values = given.get(name)
    if (values === undefined) given.set(name, [value])
    else values.push(value)
  }
  if (faults.length > 0) throw new SettingsError(faults)
  return given
}

function splitFlag(arg: string): [flag: string, value: string | undefined] {
  const at = arg.startsWith('--') ? arg.indexOf('=') : -1
  return at === -1 ? [arg, undefined] : [arg.slice(0, at), arg.slice(at + 1)]
}

function unknownArgument(arg: string, flags: Iterable<string>): string {
  if (!arg.startsWith('-')) return `argument ${JSON.stringify(arg)}: not expected here; see --help`
  return `flag ${arg}: there is no such flag${suggestion(arg, flags)}; --help lists them all`
}

/**
 * Each setting's value: flag before environment before YAML before default.
 * @param yaml values that the files gave, already checked, by the setting's name
 * @throws {SettingsError} every value that is not allowed
 */
export function resolveSettings<S extends Settings>(
  declared: S,
  flags: GivenFlags,
  environment: Environment,
  yaml: ReadonlyMap<string, unknown> = new Map(),
): ValuesOf<S> {
  const faults: string[] = []
  const values: Record<string, unknown> = {}
  for (const [name, setting] of Object.entries(declared)) {
    const fromFlags = flags.get(name)
    const fromEnvironment = fromVariable(name, environment)
    if (fromFlags !== undefined) {
      values[name] = accepted(setting.parse(fromFlags), `flag ${flagName(name)}`, faults)
    } else if (fromEnvironment !== undefined) {
      values[name] = accepted(setting.parse([fromEnvironment]), `environment ${variableName(name)}`, faults)
    } else {
      values[name] = yaml.has(name) ? yaml.get(name) : setting.default
    }
  }
  if (faults.length > 0) throw new SettingsError(faults)
  return values as ValuesOf<S>
}

/** Whether a flag or the environment names the setting. */
export function isGiven(name: string, flags: GivenFlags, environment: Environment): boolean {
  return flags.has(name) || fromVariable(name, environment) !== undefined
}

/** An empty variable counts as none, as scripts leave them. */
function fromVariable(name: string, environment: Environment): string | undefined {
  return environment[variableName(name)] || undefined
}

function accepted(value: unknown, where: string, faults: string[]): unknown {
  if (!(value instanceof Refusal)) return value
  faults.push(`${where}: ${value.message}`)
  return undefined
}

/**
 * Variables that look like a mistyped setting. Not an error: Kubernetes puts variables of its own making into every pod
 * (`MILLRACE_SERVICE_HOST` for a Service called millrace).
 */
export function mistypedVariables(declared: Settings, environment: Environment): readonly string[] {
  const known = Object.keys(declared).map(variableName)
  return Object.keys(environment)
    .filter(name => name.startsWith('MILLRACE_') && environment[name] !== '' && !known.includes(name) && suggestion(name, known) !== '')
    .map(name => `environment ${name}: there is no such setting${suggestion(name, known)}`)
}
