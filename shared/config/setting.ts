import { parseAddress, type Address } from './address.ts'
import { isNetwork } from './network.ts'

/** Why a value is not taken: one sentence for the operator, allowed values included. */
export class Refusal {
  readonly message: string

  constructor(message: string) {
    this.message = message
  }
}

/** A setting that is declared once and from which flag, environment variable, YAML key, help and docs follow. */
export interface Setting<T> {
  readonly help: string
  readonly default: T
  /** What stands for the default in help and docs where its value says too little. */
  readonly defaultText: string
  /** Allowed values in words: `1 to 65535 messages`. */
  readonly allowed: string
  /** Word for the value in `--flag WORD`; empty for a flag that takes none. */
  readonly placeholder: string
  readonly repeatable: boolean
  /** Only from the environment: a command line can be read by everybody on the machine. */
  readonly isSecret: boolean
  /** From a flag or an environment variable; a repeatable one is called with all its texts. */
  parse(texts: readonly string[]): T | Refusal
  /** From YAML, where numbers and booleans have a type. */
  fromYaml(value: unknown): T | Refusal
}

export type Settings = Readonly<Record<string, Setting<unknown>>>
export type ValuesOf<S extends Settings> = { readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : never }

interface Common {
  readonly help: string
  readonly defaultText?: string
}

interface NumberOptions extends Common {
  readonly default: number
  readonly min: number
  readonly max: number
  readonly unit?: string
}

/** A whole number within bounds. */
export function int(options: NumberOptions): Setting<number> {
  const { min, max, unit } = options
  const allowed = `${min} to ${max}${unit === undefined ? '' : ` ${unit}`}`
  const check = (value: number): number | Refusal =>
    Number.isSafeInteger(value) && value >= min && value <= max ? value : new Refusal(`expected a whole number from ${allowed}`)
  return scalar(options, String(options.default), allowed, 'N', {
    parse: text => check(/^\d+$/.test(text) ? Number(text) : NaN),
    fromYaml: value => check(typeof value === 'number' ? value : NaN),
  })
}

/** A whole number within bounds, or null where none is given. */
export function optionalInt(options: Omit<NumberOptions, 'default' | 'defaultText'>): Setting<number | null> {
  const bounded = int({ ...options, default: options.min })
  return { ...bounded, default: null, defaultText: 'none' }
}

const BYTE_UNITS: Readonly<Record<string, number>> = { '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 }

/** A number of bytes: plain, or with K, M, G, T (also Ki, KiB, KB); powers of 1024. */
export function bytes(options: Omit<NumberOptions, 'unit'>): Setting<number> {
  const { min, max } = options
  const allowed = `${sizeText(min)} to ${sizeText(max)}`
  const read = (text: string): number | Refusal => {
    const match = /^(\d+)\s*([kmgt]?)(i?b)?$/i.exec(/^\d+\s*[kmgt]i$/i.test(text) ? `${text}b` : text)
    const value = match === null ? NaN : Number(match[1]) * (BYTE_UNITS[match[2]!.toLowerCase()] ?? NaN)
    return Number.isSafeInteger(value) && value >= min && value <= max
      ? value
      : new Refusal(`expected bytes from ${allowed}, as 1048576, 1024K, 1Mi or 1MiB`)
  }
  return scalar(options, sizeText(options.default), allowed, 'BYTES', {
    parse: read,
    fromYaml: value => (typeof value === 'number' || typeof value === 'string' ? read(String(value)) : read('')),
  })
}

/** `67108864` as `64 MiB`, `1000` as `1000 bytes`. */
function sizeText(value: number): string {
  for (const [unit, factor] of [
    ['TiB', 1024 ** 4],
    ['GiB', 1024 ** 3],
    ['MiB', 1024 ** 2],
    ['KiB', 1024],
  ] as const) {
    if (value >= factor && value % factor === 0) return `${value / factor} ${unit}`
  }
  return `${value} bytes`
}

interface ChoiceOptions<T extends string> extends Common {
  readonly values: readonly T[]
  readonly default: T
  /** What to say of a value that is known and not allowed; null for any other. */
  readonly explain?: (given: string) => string | null
}

/** One of a few words; letter case does not matter. */
export function choice<const T extends string>(options: ChoiceOptions<T>): Setting<T> {
  const allowed = options.values.join(', ')
  const find = (given: unknown): T | Refusal => {
    const found = findChoice(options.values, given)
    if (found !== undefined) return found
    const reason = typeof given === 'string' ? (options.explain?.(given) ?? null) : null
    return new Refusal(`${reason === null ? '' : `${reason}; `}expected one of ${allowed}`)
  }
  return scalar(options, options.default, allowed, options.values.join('|'), { parse: find, fromYaml: find })
}

/** The word of `values` that `text` spells in any letter case; undefined when there is none. */
export function findChoice<const T extends string>(values: readonly T[], text: unknown): T | undefined {
  return typeof text === 'string' ? values.find(value => value.toLowerCase() === text.toLowerCase()) : undefined
}

export function text(
  options: Common & { readonly default: string; readonly placeholder: string; readonly maxLength: number },
): Setting<string> {
  const allowed = `text of at most ${options.maxLength} characters`
  const check = (value: unknown): string | Refusal =>
    typeof value === 'string' && value.length <= options.maxLength ? value : new Refusal(`expected ${allowed}`)
  return scalar(options, options.default, allowed, options.placeholder, { parse: check, fromYaml: check })
}

/** Text that no flag takes and no page shows; null where none is given. */
export function secret(options: Common): Setting<string | null> {
  const read = (value: unknown): string | Refusal => (typeof value === 'string' ? value : new Refusal('expected text'))
  return {
    ...scalar<string | null>({ ...options, default: null }, 'none', 'text', 'TEXT', { parse: read, fromYaml: read }),
    isSecret: true,
  }
}

/** A value with a syntax of its own. `read` must not repeat in its Refusal what may hold a secret. */
export function parsed<T, D extends T | null>(
  options: Common & {
    readonly default: D
    readonly allowed: string
    readonly placeholder: string
    readonly read: (text: string) => T | Refusal
  },
): Setting<T | D> {
  const { allowed, placeholder, read } = options
  return scalar<T | D>(options, 'none', allowed, placeholder, {
    parse: read,
    fromYaml: value => (typeof value === 'string' ? read(value) : new Refusal(`expected ${allowed}`)),
  })
}

/** A path; with null for a default, one that is given or not. */
export function path<D extends string | null>(
  options: Common & { readonly default: D; readonly placeholder: string },
): Setting<string | D> {
  const check = (value: unknown): string | Refusal => (typeof value === 'string' && value !== '' ? value : new Refusal('expected a path'))
  return scalar<string | D>(options, options.default ?? 'none', 'a path', options.placeholder, { parse: check, fromYaml: check })
}

/** A switch: the flag alone turns it on; the environment and YAML say true or false. */
export function toggle(options: Common): Setting<boolean> {
  const allowed = 'true, false'
  const words: Readonly<Record<string, boolean>> = { true: true, false: false, 1: true, 0: false }
  return {
    ...scalar<boolean>({ ...options, default: false }, 'false', allowed, '', {
      parse: given => words[given.toLowerCase()] ?? new Refusal(`expected one of ${allowed}`),
      fromYaml: value => (typeof value === 'boolean' ? value : new Refusal(`expected one of ${allowed}`)),
    }),
  }
}

/** HOST:PORT, or `off` for no port at all. */
export function address(options: Common & { readonly default: Address | null; readonly defaultText: string }): Setting<Address | null> {
  return scalar<Address | null>(options, options.defaultText, 'HOST:PORT or off', 'HOST:PORT', {
    parse: readAddress,
    fromYaml: readAddress,
  })
}

/** Any number of HOST:PORT; `off` alone for none. */
export function addresses(
  options: Common & { readonly default: readonly Address[]; readonly defaultText: string },
): Setting<readonly Address[]> {
  return list(options, 'HOST:PORT or off', 'HOST:PORT', readAddress, found => found.filter(one => one !== null))
}

/** Networks in CIDR notation, or single addresses, separated by commas. */
export function networks(options: Common): Setting<readonly string[]> {
  const read = (value: unknown): string | Refusal =>
    typeof value === 'string' && isNetwork(value) ? value : new Refusal('expected a network such as 10.0.0.0/8 or fd00::/8, or an address')
  return list({ ...options, default: [], defaultText: 'none' }, 'networks in CIDR notation', 'CIDR[,CIDR]', read, found => found)
}

function readAddress(value: unknown): Address | null | Refusal {
  if (value === 'off') return null
  const found = typeof value === 'string' ? parseAddress(value) : undefined
  return found ?? new Refusal('expected HOST:PORT such as 127.0.0.1:1883, [::1]:1883 or 0.0.0.0:1883 with a port from 0 to 65535, or off')
}

interface Readers<T> {
  parse(text: string): T | Refusal
  fromYaml(value: unknown): T | Refusal
}

function scalar<T>(
  options: Common & { readonly default: T },
  defaultText: string,
  allowed: string,
  placeholder: string,
  readers: Readers<T>,
): Setting<T> {
  return {
    help: options.help,
    default: options.default,
    defaultText: options.defaultText ?? defaultText,
    allowed,
    placeholder,
    repeatable: false,
    isSecret: false,
    parse: texts => (texts.length === 1 ? readers.parse(texts[0]!) : new Refusal('given more than once')),
    fromYaml: value => readers.fromYaml(value),
  }
}

function list<T, U>(
  options: Common & { readonly default: readonly U[]; readonly defaultText: string },
  allowed: string,
  placeholder: string,
  read: (value: unknown) => T | Refusal,
  finish: (found: readonly T[]) => readonly U[],
): Setting<readonly U[]> {
  const all = (values: readonly unknown[]): readonly U[] | Refusal => {
    const found: T[] = []
    for (const value of values) {
      const one = read(value)
      if (one instanceof Refusal) return one
      found.push(one)
    }
    return finish(found)
  }
  return {
    help: options.help,
    default: options.default,
    defaultText: options.defaultText,
    allowed,
    placeholder,
    repeatable: true,
    isSecret: false,
    parse: texts => all(texts.flatMap(given => given.split(',')).map(given => given.trim())),
    fromYaml: value => all(Array.isArray(value) ? value : [value]),
  }
}
