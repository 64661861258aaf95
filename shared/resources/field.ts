import { z } from 'zod'
import { findChoice, int, Refusal, type Setting } from '../config/setting.ts'

/** What the OpenAPI schema of a CustomResourceDefinition says of a field; the check itself is ours. */
type OpenApi = Readonly<Record<string, unknown>>

/** A field that takes what a setting takes from YAML. */
export function settingField<T>(setting: Setting<T>): z.ZodType<T> {
  return checked(value => setting.fromYaml(value), openApiOf(setting))
}

/** A whole number within the bounds of a setting, a number of bytes in either spelling, a switch; anything else is text. */
function openApiOf({ default: standard, allowed, placeholder, help }: Setting<unknown>): OpenApi {
  const description = help === '' ? {} : { description: `${help} ${allowed}.` }
  if (placeholder === 'BYTES') return { 'x-kubernetes-int-or-string': true, ...description }
  if (placeholder === '') return { type: 'boolean', ...description }
  const range = /^(\d+) to (\d+)( |$)/.exec(allowed)
  if (range === null || (typeof standard !== 'number' && standard !== null)) return { type: 'string', ...description }
  return { type: 'integer', format: 'int64', minimum: Number(range[1]), maximum: Number(range[2]), ...description }
}

/** A whole number, both ends included. */
export function wholeNumber(min: number, max: number): z.ZodType<number> {
  return settingField(int({ default: min, min, max, help: '' }))
}

/** One of a few words in any letter case, read as spelt here. The API server is told no more than the words: it would insist on the case. */
export function oneOf<const T extends string>(values: readonly T[]): z.ZodType<T> {
  return checked(value => findChoice(values, value) ?? new Refusal(`expected one of ${values.join(', ')}`), {
    type: 'string',
    description: `One of ${values.join(', ')}; letter case does not matter.`,
  })
}

export function onOff(): z.ZodType<'Enabled' | 'Disabled'> {
  return oneOf(['Enabled', 'Disabled'])
}

export function text(): z.ZodType<string> {
  return checked(value => (typeof value === 'string' ? value : new Refusal(noText(value))), { type: 'string' })
}

/** YAML reads `5` and `true` as no texts; whoever wrote them may not know. */
function noText(value: unknown): string {
  return typeof value === 'number' || typeof value === 'boolean' ? 'expected text: put it in quotes' : 'expected text'
}

/** Text with at least one character. */
export function filledText(): z.ZodType<string> {
  return checked(value => (typeof value === 'string' && value !== '' ? value : new Refusal('expected text, not empty')), {
    type: 'string',
    minLength: 1,
  })
}

/** @param expected what a fault asks for */
export function matchingText(pattern: RegExp, expected: string): z.ZodType<string> {
  return checked(value => (typeof value === 'string' && pattern.test(value) ? value : new Refusal(`expected ${expected}`)), {
    type: 'string',
    pattern: pattern.source,
  })
}

const RESOURCE_NAME = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/
const RESOURCE_NAME_MAX = 63

/** Name of one of our resources. */
export function resourceName(): z.ZodType<string> {
  return checked(
    value =>
      typeof value === 'string' && value.length <= RESOURCE_NAME_MAX && RESOURCE_NAME.test(value)
        ? value
        : new Refusal(`expected a name of small letters, digits and hyphens, at most ${RESOURCE_NAME_MAX}`),
    { type: 'string', pattern: RESOURCE_NAME.source, maxLength: RESOURCE_NAME_MAX },
  )
}

const OBJECT_NAME = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/
const OBJECT_NAME_MAX = 253

/** Name of a Secret, ConfigMap or ServiceAccount, dots within it allowed. Holds no slash and is no `..`: safe as the name of a directory. */
export function objectName(): z.ZodType<string> {
  return checked(
    value =>
      typeof value === 'string' && value.length <= OBJECT_NAME_MAX && OBJECT_NAME.test(value)
        ? value
        : new Refusal('expected a name of small letters, digits, hyphens and dots'),
    { type: 'string', pattern: OBJECT_NAME.source, maxLength: OBJECT_NAME_MAX },
  )
}

/**
 * Text by names that somebody chose. The object has no prototype, so that no name means anything to JavaScript.
 * @param entryFault what is wrong with an entry; null when nothing is
 */
export function textMap(entryFault: (name: string, value: string) => string | null = () => null): z.ZodType<Record<string, string>> {
  return z
    .unknown()
    .transform((given, context): Record<string, string> => {
      const found = Object.create(null) as Record<string, string>
      if (typeof given !== 'object' || given === null || Array.isArray(given)) {
        context.addIssue({ code: 'custom', message: given === undefined ? 'is missing: expected fields' : 'expected fields' })
        return z.NEVER
      }
      for (const [name, value] of Object.entries(given)) {
        const fault = typeof value === 'string' ? entryFault(name, value) : noText(value)
        if (fault === null) found[name] = value as string
        else context.addIssue({ code: 'custom', path: [name], message: fault })
      }
      return found
    })
    .meta({ type: 'object', additionalProperties: { type: 'string' } })
}

const DURATION = /^(\d+(\.\d+)?[hms])+$/

/** As Go has them, of hours, minutes and seconds: `240h`, `1h30m`. Kept as it is spelt. */
export function duration(): z.ZodType<string> {
  return matchingText(DURATION, 'a duration of h, m and s such as 240h, 45m or 1h30m')
}

const SIZE_UNITS = 'KMGTPE'

/** `10G`, `10Gi`, `10GiB` or `10GB`, all of them powers of 1024, kept as spelt. */
export function volumeSize(minBytes: number, minText: string): z.ZodType<string> {
  const pattern = /^(\d+)([KMGTPE])?(i?B|i)?$/
  return checked(
    value => {
      const match = typeof value === 'string' ? pattern.exec(value) : null
      const bytes = match === null ? NaN : Number(match[1]) * 1024 ** (match[2] === undefined ? 0 : SIZE_UNITS.indexOf(match[2]) + 1)
      return bytes >= minBytes ? (value as string) : new Refusal(`expected a size such as 10G, 10Gi or 10GiB, at least ${minText}`)
    },
    { type: 'string', pattern: pattern.source },
  )
}

/** A field with a check of its own. Its schema is that of what may be written, not of what is read. */
export function checked<T>(read: (value: unknown) => T | Refusal, openApi: OpenApi = {}): z.ZodType<T> {
  return z
    .unknown()
    .transform((value, context): T => {
      const found = read(value)
      if (!(found instanceof Refusal)) return found
      context.addIssue({ code: 'custom', message: value === undefined ? `is missing: ${found.message}` : found.message })
      return z.NEVER
    })
    .meta(openApi)
}

/** What every resource begins with; other metadata is Kubernetes' business. */
export const metadata = z.looseObject({ name: resourceName() })

/** The fields around `spec`. */
export function resourceSchema<S extends z.ZodType>(spec: S) {
  return z.strictObject({ apiVersion: z.unknown(), kind: z.unknown(), metadata, status: z.unknown().optional(), spec })
}
