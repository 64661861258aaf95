import { stringify } from 'yaml'
import { z } from 'zod'
import { API_GROUP } from './api-group.ts'
import { brokerSchema } from './broker.ts'
import { brokerAuthenticationSchema } from './broker-authentication.ts'
import { brokerAuthorizationSchema } from './broker-authorization.ts'
import { brokerListenerSchema } from './broker-listener.ts'

type Json = Record<string, unknown>

interface Column {
  readonly name: string
  readonly type: 'string' | 'date'
  readonly jsonPath: string
}

const READY: Column = { name: 'Ready', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].status' }
const REASON: Column = { name: 'Reason', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].reason' }
const AGE: Column = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' }

const KINDS: readonly (readonly [kind: string, schema: z.ZodType, columns: readonly Column[]])[] = [
  ['Broker', brokerSchema, [{ name: 'Memory', type: 'string', jsonPath: '.spec.memoryProfile' }]],
  [
    'BrokerListener',
    brokerListenerSchema,
    [
      { name: 'Service', type: 'string', jsonPath: '.spec.serviceType' },
      { name: 'Ports', type: 'string', jsonPath: '.spec.ports[*].port' },
    ],
  ],
  [
    'BrokerAuthentication',
    brokerAuthenticationSchema,
    [{ name: 'Methods', type: 'string', jsonPath: '.spec.authenticationMethods[*].method' }],
  ],
  [
    'BrokerAuthorization',
    brokerAuthorizationSchema,
    [{ name: 'Update', type: 'string', jsonPath: '.spec.authorizationPolicies.onUpdate' }],
  ],
]

/** YAML of the CustomResourceDefinitions by the names of their files. */
export function customResourceDefinitions(): ReadonlyMap<string, string> {
  return new Map(
    KINDS.map(([kind, schema, columns]) => {
      const plural = `${kind.toLowerCase()}s`
      return [`${plural}.yaml`, stringify(definition(kind, plural, schema, columns), { lineWidth: 0, aliasDuplicateObjects: false })]
    }),
  )
}

function definition(kind: string, plural: string, schema: z.ZodType, columns: readonly Column[]): Json {
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${API_GROUP}` },
    spec: {
      group: API_GROUP,
      scope: 'Namespaced',
      names: { kind, listKind: `${kind}List`, plural, singular: kind.toLowerCase() },
      versions: [
        version('v1', true, specOf(schema), columns),
        // Holds whatever the previews called a field: all of it is read, and most of it has another shape.
        version('v1beta1', false, { type: 'object', [PRESERVE]: true }, columns),
      ],
    },
  }
}

function version(name: string, isStored: boolean, spec: unknown, columns: readonly Column[]): Json {
  const openAPIV3Schema = {
    type: 'object',
    properties: { apiVersion: { type: 'string' }, kind: { type: 'string' }, metadata: { type: 'object' }, spec, status: STATUS },
    ...(isRequired(spec) && { required: ['spec'] }),
  }
  return {
    name,
    served: true,
    storage: isStored,
    schema: { openAPIV3Schema },
    subresources: { status: {} },
    additionalPrinterColumns: [...columns, READY, REASON, AGE],
  }
}

function isRequired(spec: unknown): boolean {
  return Array.isArray((spec as Json)['required'])
}

const PRESERVE = 'x-kubernetes-preserve-unknown-fields'

const STATUS: Json = {
  type: 'object',
  properties: {
    conditions: {
      type: 'array',
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['type'],
      items: {
        type: 'object',
        required: ['type', 'status', 'lastTransitionTime', 'reason', 'message'],
        properties: {
          type: { type: 'string' },
          status: { type: 'string', enum: ['True', 'False', 'Unknown'] },
          observedGeneration: { type: 'integer', format: 'int64' },
          lastTransitionTime: { type: 'string', format: 'date-time' },
          reason: { type: 'string' },
          message: { type: 'string' },
        },
      },
    },
  },
  [PRESERVE]: true,
}

/** The structural schema of `spec`. */
function specOf(schema: z.ZodType): unknown {
  const { properties } = z.toJSONSchema(schema, { target: 'openapi-3.0', io: 'input' }) as { properties: Json }
  return structural(properties['spec'])
}

/**
 * What an API server takes of the schema. No object forbids unknown fields, and none has them removed: an API server that prunes would
 * make an open port of a mistyped `authenticationRef`, and lose the old names that a preview was stored with. They come to us, and are
 * faults or translated here.
 */
function structural(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(structural)
  if (typeof schema !== 'object' || schema === null) return schema
  const { additionalProperties, properties, items, ...rest } = schema as Json
  delete rest['propertyNames']
  if (Object.keys(schema).length === 0) return { [PRESERVE]: true }
  return {
    ...rest,
    ...(items !== undefined && { items: structural(items) }),
    ...(typeof additionalProperties === 'object' && { additionalProperties: structural(additionalProperties) }),
    ...(properties !== undefined && {
      properties: Object.fromEntries(Object.entries(properties as Json).map(([name, field]) => [name, structural(field)])),
      [PRESERVE]: true,
    }),
  }
}
