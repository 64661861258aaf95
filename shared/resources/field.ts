import { z } from 'zod'
import { findChoice, int, Refusal, type Setting } from '../config/setting.ts'

/** A field that takes what a setting takes from YAML. */
export function settingField<T>(setting: Setting<T>): z.ZodType<T> {
  return checked(value => setting.fromYaml(value))
}

export function wholeNumber(min: number, max: number): z.ZodType<number> {
  return settingField(int({ default: min, min, max, help: '' }))
}

/** One of a few words in any letter case, read as spelt here. */
export function oneOf<const T extends string>(values: readonly T[]): z.ZodType<T> {
  return checked(value => findChoice(values, value) ?? new Refusal(`expected one of ${values.join(', ')}`))
}

export function text(): z.ZodType<string> {
  return checked(value => (typeof value === 'string' ? value : new Refusal('expected text')))
}

const RESOURCE_NAME = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/
const RESOURCE_NAME_MAX = 253

/** Name of a Kubernetes object. Holds no dot and no slash, so it is safe as the name of a directory. */
export function resourceName(): z.ZodType<string> {
  return checked(value =>
    typeof value === 'string' && value.length <= RESOURCE_NAME_MAX && RESOURCE_NAME.test(value)
      ? value
      : new Refusal('expected a name of small letters, digits and hyphens'),
  )
}

export function checked<T>(read: (value: unknown) => T | Refusal): z.ZodType<T> {
  return z.unknown().transform((value, context): T => {
    const found = read(value)
    if (!(found instanceof Refusal)) return found
    context.addIssue({ code: 'custom', message: value === undefined ? `is missing: ${found.message}` : found.message })
    return z.NEVER
  })
}

/** What every document begins with; other metadata is Kubernetes' business. */
export const metadata = z.looseObject({ name: resourceName() })
