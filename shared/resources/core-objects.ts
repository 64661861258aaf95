import { z } from 'zod'
import { ATTRIBUTE_PREFIX, OLD_ATTRIBUTE_PREFIX } from './attribute-annotations.ts'
import { textMap } from './field.ts'
import type { Findings } from './findings.ts'

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/

/** Never repeats a value. */
const secretData = textMap((_, value) =>
  BASE64.test(value.replaceAll(/\s/g, '')) ? null : 'expected base64; text as it is stands under stringData',
)

/** Key → bytes. `stringData` comes before `data`, as in Kubernetes. */
export function readSecret(findings: Findings): ReadonlyMap<string, Uint8Array> {
  const secret = findings.document.check(z.looseObject({ data: secretData.optional(), stringData: textMap().optional() }), findings.faults)
  return new Map([
    ...Object.entries(secret?.data ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64')] as const),
    ...Object.entries(secret?.stringData ?? {}).map(([key, value]) => [key, Buffer.from(value, 'utf8')] as const),
  ])
}

/** Key → text. */
export function readConfigMap(findings: Findings): ReadonlyMap<string, string> {
  const schema = z.looseObject({ data: textMap().optional(), binaryData: z.unknown().optional() })
  const found = findings.document.check(schema, findings.faults)
  if (found?.binaryData !== undefined) findings.warn(['binaryData'], 'has no effect: what is read from a ConfigMap is text')
  return new Map(Object.entries(found?.data ?? {}))
}

/** Annotations. Attributes under the prefix of an earlier preview are read under the present one, unless that is there as well. */
export function readServiceAccount(findings: Findings): ReadonlyMap<string, string> {
  const schema = z.looseObject({ metadata: z.looseObject({ annotations: textMap().optional() }) })
  const annotations = new Map(Object.entries(findings.document.check(schema, findings.faults)?.metadata.annotations ?? {}))
  for (const [name, value] of Array.from(annotations)) {
    if (!name.startsWith(OLD_ATTRIBUTE_PREFIX)) continue
    const now = ATTRIBUTE_PREFIX + name.slice(OLD_ATTRIBUTE_PREFIX.length)
    findings.warn(['metadata', 'annotations', name], `is the old name of ${now}`)
    if (!annotations.has(now)) annotations.set(now, value)
  }
  return annotations
}
