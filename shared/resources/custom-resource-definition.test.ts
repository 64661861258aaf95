import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { limitSettings } from '../config/broker-settings.ts'
import { customResourceDefinitions } from './custom-resource-definition.ts'

type Json = Record<string, unknown>

const CRDS = new URL('../../deploy/crds/', import.meta.url)
const EXAMPLES = new URL('../../docs/examples/', import.meta.url)

interface Version {
  readonly name: string
  readonly served: boolean
  readonly storage: boolean
  readonly subresources: unknown
  readonly schema: { readonly openAPIV3Schema: Json }
}

const DEFINITIONS: readonly { readonly kind: string; readonly versions: readonly Version[] }[] = [
  ...customResourceDefinitions().values(),
].map(text => {
  const { spec } = parse(text) as { readonly spec: { readonly names: { readonly kind: string }; readonly versions: readonly Version[] } }
  return { kind: spec.names.kind, versions: spec.versions }
})

test('deploy/crds is up to date: node scripts/custom-resource-definitions.ts', () => {
  const files = customResourceDefinitions()
  expect(readdirSync(CRDS).sort()).toEqual([...files.keys()].sort())
  for (const [file, text] of files) expect(readFileSync(new URL(file, CRDS), 'utf8')).toBe(text)
})

test('v1 is stored, v1beta1 is served; both have a status of their own', () => {
  expect(DEFINITIONS.map(({ kind }) => kind)).toEqual(['Broker', 'BrokerListener', 'BrokerAuthentication', 'BrokerAuthorization'])
  for (const { versions } of DEFINITIONS) {
    expect(versions.map(({ name, served, storage, subresources }) => [name, served, storage, subresources])).toEqual([
      ['v1', true, true, { status: {} }],
      ['v1beta1', true, false, { status: {} }],
    ])
  }
})

const PRESERVE = 'x-kubernetes-preserve-unknown-fields'

/** What Kubernetes calls structural, and that no unknown field is removed before it can be refused. */
function structureFaults(schema: Json, path: string): string[] {
  const { properties, items, additionalProperties } = schema as { properties?: Json; items?: Json; additionalProperties?: Json }
  const faults: string[] = []
  const hasType = schema['type'] !== undefined || schema['x-kubernetes-int-or-string'] === true || schema[PRESERVE] === true
  if (!hasType) faults.push(`${path}: no type`)
  for (const word of ['anyOf', 'oneOf', 'allOf', 'not', '$ref', 'nullable', 'propertyNames', 'const'])
    if (word in schema) faults.push(`${path}: ${word}`)
  if (properties !== undefined && additionalProperties !== undefined) faults.push(`${path}: properties beside additionalProperties`)
  if (path.includes('.spec') && properties !== undefined && schema[PRESERVE] !== true) faults.push(`${path}: prunes`)
  for (const [name, field] of Object.entries(properties ?? {})) faults.push(...structureFaults(field as Json, `${path}.${name}`))
  if (items !== undefined) faults.push(...structureFaults(items, `${path}[]`))
  if (additionalProperties !== undefined) faults.push(...structureFaults(additionalProperties, `${path}.*`))
  return faults
}

test('every schema is structural', () => {
  for (const { kind, versions } of DEFINITIONS)
    for (const { name, schema } of versions) expect(structureFaults(schema.openAPIV3Schema, `${kind} ${name}`)).toEqual([])
})

function fieldNames(schema: Json): readonly string[] {
  const properties = Object.entries((schema['properties'] as Json | undefined) ?? {})
  const deeper = [...properties.map(([, field]) => field), schema['items'], schema['additionalProperties']]
  return [...properties.map(([name]) => name), ...deeper.flatMap(field => (field === undefined ? [] : fieldNames(field as Json)))]
}

test('docs/resources.md speaks of every field', () => {
  const page = readFileSync(new URL('../../docs/resources.md', import.meta.url), 'utf8')
  const limits = Object.keys(limitSettings)
  const volumeClaim = new Set([
    'apiGroup',
    'kind',
    'name',
    'namespace',
    'limits',
    'requests',
    'claims',
    'matchExpressions',
    'matchLabels',
    'key',
    'operator',
    'values',
  ])
  for (const { kind, versions } of DEFINITIONS) {
    const { spec } = versions[0]!.schema.openAPIV3Schema['properties'] as { readonly spec: Json }
    const names = fieldNames(spec).filter(name => !limits.includes(name) && !volumeClaim.has(name))
    expect(names.length).toBeGreaterThan(10)
    expect(names.filter(name => !new RegExp(`\\b${name}\\b`).test(page)).map(name => `${kind} ${name}`)).toEqual([])
  }
})

/** As far as these schemas go: type, required fields, ranges, patterns. */
function valueFaults(schema: Json, value: unknown, path: string): string[] {
  const type = value === null ? 'null' : Array.isArray(value) ? 'array' : Number.isInteger(value) ? 'integer' : typeof value
  const faults: string[] = []
  if (schema['type'] !== undefined && schema['type'] !== type)
    faults.push(`${path}: ${type} instead of ${String(schema['type'] as string)}`)
  if (typeof value === 'number' && (value < Number(schema['minimum'] ?? value) || value > Number(schema['maximum'] ?? value)))
    faults.push(`${path}: ${value}`)
  if (typeof value === 'string' && !new RegExp((schema['pattern'] as string | undefined) ?? '').test(value))
    faults.push(`${path}: ${value}`)
  if (Array.isArray(value) && schema['items'] !== undefined)
    faults.push(...value.flatMap((item, index) => valueFaults(schema['items'] as Json, item, `${path}[${index}]`)))
  if (type !== 'object') return faults
  for (const name of (schema['required'] as string[] | undefined) ?? [])
    if (!(name in (value as Json))) faults.push(`${path}.${name}: missing`)
  for (const [name, field] of Object.entries(value as Json)) {
    const of = ((schema['properties'] as Json | undefined)?.[name] ?? schema['additionalProperties']) as Json | undefined
    if (of !== undefined) faults.push(...valueFaults(of, field, `${path}.${name}`))
  }
  return faults
}

test('an API server takes the examples: those of today as v1, those with old names as v1beta1', () => {
  let found = 0
  for (const [folder, version] of [
    ['resources', 'v1'],
    ['old-names', 'v1beta1'],
  ] as const) {
    for (const file of readdirSync(new URL(`${folder}/`, EXAMPLES))) {
      for (const document of parseAllDocuments(readFileSync(new URL(`${folder}/${file}`, EXAMPLES), 'utf8'))) {
        const value = document.toJS() as Json
        const definition = DEFINITIONS.find(({ kind }) => kind === value['kind'])
        const schema = definition?.versions.find(({ name }) => name === version)?.schema.openAPIV3Schema
        if (schema === undefined) continue
        found++
        expect(valueFaults(schema, value, `${file} ${String(value['kind'] as string)}`)).toEqual([])
      }
    }
  }
  expect(found).toBe(13)
})

test('an API server refuses what has the wrong type, is out of range or lacks a field', () => {
  const schema = DEFINITIONS[1]!.versions[0]!.schema.openAPIV3Schema
  const faults = (spec: unknown): readonly string[] => valueFaults(schema, { spec }, '')
  expect(faults({ ports: [{ port: 'x' }] })).toEqual(['.spec.ports[0].port: string instead of integer'])
  expect(faults({ ports: [{ port: 65_536 }] })).toEqual(['.spec.ports[0].port: 65536'])
  expect(faults({ ports: [{ tls: {} }] })).toEqual(['.spec.ports[0].port: missing', '.spec.ports[0].tls.mode: missing'])
  expect(faults({ serviceType: 'loadbalancer', ports: [], unknown: 1 })).toEqual([])
})
