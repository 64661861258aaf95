import { z } from 'zod'
import { Refusal } from '../config/setting.ts'
import { nameKey, NameError, parseName } from '../x509/distinguished-name.ts'
import { checked, filledText, objectName, onOff, oneOf, resourceSchema, textMap, wholeNumber } from './field.ts'
import type { Findings } from './findings.ts'
import type { FieldPath } from './resource-document.ts'

const httpsUrl = checked(
  value =>
    typeof value === 'string' && /^https:\/\//i.test(value) && URL.canParse(value) ? value : new Refusal('expected an https:// URL'),
  { type: 'string', pattern: '^[hH][tT][tT][pP][sS]://.*$' },
)

const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

/** What could end a header and begin another one is refused here, before it can reach a request. */
const headers = textMap((name, value) => {
  if (!HEADER_NAME.test(name)) return 'is no name of an HTTP header'
  return HEADER_VALUE.test(value) ? null : 'holds what no HTTP header may hold'
})

/** ConfigMap of trusted authorities where `trustedClientCaCert` names none. */
export const DEFAULT_CLIENT_CA = 'client-ca'

/** Signatures of a token with a public key. Without `none`, and without HMAC, whose key would be one that everybody has. */
export const JWT_ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'] as const

const x509Settings = z.strictObject({
  trustedClientCaCert: objectName().optional(),
  authorizationAttributes: z.record(z.string(), z.strictObject({ subject: filledText(), attributes: textMap() })).optional(),
  additionalValidation: oneOf(['None', 'AzureDeviceRegistry']).optional(),
  /** Extension: ConfigMap with lists of revoked certificates, PEM or DER in base64, under any key. */
  revocationListConfigMap: objectName().optional(),
  /** Extension: ConfigMap that stands for the device registry: each key is the name of a device, its value `enabled` or `disabled`. */
  deviceRegistryConfigMap: objectName().optional(),
})

const serviceAccountTokenSettings = z.strictObject({
  audiences: z.array(filledText()).min(1),
  /** Extension: verify against the cluster's published keys while the API server is away. */
  offlineVerification: onOff().optional(),
})

const customSettings = z.strictObject({
  endpoint: httpsUrl,
  caCertConfigMap: objectName().optional(),
  auth: z.strictObject({ x509: z.strictObject({ secretRef: objectName(), namespace: filledText().optional() }) }).optional(),
  headers: headers.optional(),
  /** Extension. */
  timeoutSeconds: wholeNumber(1, 60).optional(),
  /** Extension: some servers expect `enhancedAuthentication.method` in base64. */
  encodesMethod: onOff().optional(),
})

const scramSettings = z.strictObject({
  secretRef: objectName(),
  mechanisms: z
    .array(oneOf(['SCRAM-SHA-256', 'SCRAM-SHA-512', 'SCRAM-SHA-1']))
    .min(1)
    .optional(),
})

const passwordSettings = z.strictObject({ secretRef: objectName() })

const jwtSettings = z.strictObject({
  jwksConfigMap: objectName().optional(),
  jwksUrl: httpsUrl.optional(),
  caCertConfigMap: objectName().optional(),
  issuer: filledText(),
  audiences: z.array(filledText()).min(1),
  algorithms: z.array(oneOf(JWT_ALGORITHMS)).min(1).optional(),
  /** Claim that is the user name; default `sub`. */
  userNameClaim: filledText().optional(),
  /** Attribute → claim (a text, number, boolean, or dots for a path). */
  attributeClaims: textMap().optional(),
})

/** `Scram`, `Password`, `Jwt` are extensions. */
const authenticationMethod = z.strictObject({
  method: oneOf(['Custom', 'ServiceAccountToken', 'X509', 'Scram', 'Password', 'Jwt']),
  customSettings: customSettings.optional(),
  serviceAccountTokenSettings: serviceAccountTokenSettings.optional(),
  x509Settings: x509Settings.optional(),
  scramSettings: scramSettings.optional(),
  passwordSettings: passwordSettings.optional(),
  jwtSettings: jwtSettings.optional(),
})

export const brokerAuthenticationSchema = resourceSchema(
  z.strictObject({
    authenticationMethods: z.array(authenticationMethod).min(1),
    /** Extension: DISCONNECT 0x87 before a connection whose credential has expired is closed. */
    expiryDisconnect: onOff().optional(),
  }),
)

export type BrokerAuthenticationSpec = z.infer<typeof brokerAuthenticationSchema>['spec']
export type AuthenticationMethodSpec = BrokerAuthenticationSpec['authenticationMethods'][number]
export type X509Settings = z.infer<typeof x509Settings>
export type ServiceAccountTokenSettings = z.infer<typeof serviceAccountTokenSettings>
export type CustomSettings = z.infer<typeof customSettings>
export type ScramSettings = z.infer<typeof scramSettings>
export type PasswordSettings = z.infer<typeof passwordSettings>
export type JwtSettings = z.infer<typeof jwtSettings>

/** Method → the field with its settings. */
const SETTINGS_OF = {
  Custom: 'customSettings',
  ServiceAccountToken: 'serviceAccountTokenSettings',
  X509: 'x509Settings',
  Scram: 'scramSettings',
  Password: 'passwordSettings',
  Jwt: 'jwtSettings',
} as const satisfies Record<AuthenticationMethodSpec['method'], keyof AuthenticationMethodSpec>

/** The spec, with what its schema cannot say checked as well; null with faults. */
export function readBrokerAuthentication(findings: Findings): BrokerAuthenticationSpec | null {
  const found = findings.document.check(brokerAuthenticationSchema, findings.faults)
  if (found === null) return null
  for (const [index, method] of found.spec.authenticationMethods.entries()) {
    const path = ['spec', 'authenticationMethods', index]
    checkSettings(findings, path, method)
    if (method.x509Settings !== undefined) checkX509(findings, [...path, 'x509Settings'], method.x509Settings)
    if (method.jwtSettings !== undefined) checkKeys(findings, [...path, 'jwtSettings'], method.jwtSettings)
    if (method.customSettings?.auth?.x509.namespace !== undefined)
      findings.warn([...path, 'customSettings', 'auth', 'x509', 'namespace'], 'has no effect: the secret is looked up beside the resource')
  }
  return found.spec
}

function checkSettings(findings: Findings, path: FieldPath, method: AuthenticationMethodSpec): void {
  for (const [name, field] of Object.entries(SETTINGS_OF)) {
    if (name === method.method && method[field] === undefined) findings.fault([...path, field], `is missing: method ${name} needs it`)
    if (name !== method.method && method[field] !== undefined) findings.fault([...path, field], `belongs to method ${name}`)
  }
}

function checkX509(findings: Findings, path: FieldPath, settings: X509Settings): void {
  const { additionalValidation, deviceRegistryConfigMap } = settings
  const isAsked = additionalValidation === 'AzureDeviceRegistry'
  if (isAsked && deviceRegistryConfigMap === undefined)
    findings.warn(
      [...path, 'additionalValidation'],
      'needs deviceRegistryConfigMap: there is no other registry here, and ports stay closed',
    )
  if (!isAsked && deviceRegistryConfigMap !== undefined)
    findings.fault([...path, 'deviceRegistryConfigMap'], 'needs additionalValidation AzureDeviceRegistry')
  checkAttributes(findings, [...path, 'authorizationAttributes'], settings)
}

function checkAttributes(findings: Findings, path: FieldPath, { authorizationAttributes }: X509Settings): void {
  // zod leaves such a label out without a word, and with it what a Deny may be about.
  if (findings.document.has([...path, '__proto__'])) findings.fault([...path, '__proto__'], 'is no label that can be used')
  const labels = new Map<string, string>()
  for (const [label, { subject }] of Object.entries(authorizationAttributes ?? {})) {
    const key = subjectKey(subject)
    const before = key instanceof NameError ? undefined : labels.get(key)
    if (key instanceof NameError) findings.fault([...path, label, 'subject'], `is no distinguished name: ${key.message}`)
    else if (before === undefined) labels.set(key, label)
    else findings.fault([...path, label, 'subject'], `${before} has the same subject; its attributes alone would count`)
  }
}

/** The same for every spelling of one name. */
function subjectKey(subject: string): string | NameError {
  try {
    return nameKey(parseName(subject))
  } catch (error) {
    if (error instanceof NameError) return error
    throw error
  }
}

function checkKeys(findings: Findings, path: FieldPath, { jwksConfigMap, jwksUrl, caCertConfigMap }: JwtSettings): void {
  if (jwksConfigMap === undefined && jwksUrl === undefined) findings.fault(path, 'needs jwksConfigMap or jwksUrl')
  if (jwksConfigMap !== undefined && jwksUrl !== undefined)
    findings.fault([...path, 'jwksUrl'], 'jwksConfigMap is given too; keep one of them')
  if (caCertConfigMap !== undefined && jwksUrl === undefined) findings.fault([...path, 'caCertConfigMap'], 'needs jwksUrl')
}
