import { z } from 'zod'
import { checked, metadata, oneOf, resourceName, text, wholeNumber } from './field.ts'
import { Refusal } from '../config/setting.ts'

const texts = z.record(z.string(), text())
const onOff = oneOf(['Enabled', 'Disabled'])

const httpsUrl = checked(value =>
  typeof value === 'string' && URL.canParse(value) && new URL(value).protocol === 'https:'
    ? value
    : new Refusal('expected an https:// URL'),
)

const x509Settings = z.strictObject({
  trustedClientCaCert: resourceName().optional(),
  authorizationAttributes: z.record(z.string(), z.strictObject({ subject: text(), attributes: texts })).optional(),
  additionalValidation: oneOf(['None', 'AzureDeviceRegistry']).optional(),
  /** Extension: ConfigMap with lists of revoked certificates, PEM or DER in base64, under any key. */
  revocationListConfigMap: resourceName().optional(),
  /** Extension: ConfigMap that stands for the device registry: each key is the name of a device, its value `enabled` or `disabled`. */
  deviceRegistryConfigMap: resourceName().optional(),
})

const serviceAccountTokenSettings = z.strictObject({
  audiences: z.array(text()).min(1),
  /** Extension: verify against the cluster's published keys while the API server is away. */
  offlineVerification: onOff.optional(),
})

const customSettings = z.strictObject({
  endpoint: httpsUrl,
  caCertConfigMap: resourceName().optional(),
  auth: z.strictObject({ x509: z.strictObject({ secretRef: resourceName(), namespace: text().optional() }) }).optional(),
  headers: texts.optional(),
  /** Extension. */
  timeoutSeconds: wholeNumber(1, 60).optional(),
  /** Extension: some servers expect `enhancedAuthentication.method` in base64. */
  encodesMethod: onOff.optional(),
})

const scramSettings = z.strictObject({
  secretRef: resourceName(),
  mechanisms: z
    .array(oneOf(['SCRAM-SHA-256', 'SCRAM-SHA-512', 'SCRAM-SHA-1']))
    .min(1)
    .optional(),
})

const passwordSettings = z.strictObject({ secretRef: resourceName() })

const jwtSettings = z.strictObject({
  jwksConfigMap: resourceName().optional(),
  jwksUrl: httpsUrl.optional(),
  caCertConfigMap: resourceName().optional(),
  issuer: text(),
  audiences: z.array(text()).min(1),
  algorithms: z
    .array(oneOf(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA']))
    .min(1)
    .optional(),
  /** Claim that is the user name; default `sub`. */
  userNameClaim: text().optional(),
  /** Attribute → claim (a text, number, boolean, or dots for a path). */
  attributeClaims: texts.optional(),
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

export const brokerAuthenticationSchema = z.strictObject({
  apiVersion: z.unknown(),
  kind: z.unknown(),
  metadata,
  status: z.unknown().optional(),
  spec: z.strictObject({
    authenticationMethods: z.array(authenticationMethod).min(1),
    /** Extension: DISCONNECT 0x87 before a connection whose credential has expired is closed. */
    expiryDisconnect: onOff.optional(),
  }),
})

export type BrokerAuthenticationSpec = z.infer<typeof brokerAuthenticationSchema>['spec']
export type AuthenticationMethodSpec = BrokerAuthenticationSpec['authenticationMethods'][number]
export type X509Settings = z.infer<typeof x509Settings>
export type ServiceAccountTokenSettings = z.infer<typeof serviceAccountTokenSettings>
export type CustomSettings = z.infer<typeof customSettings>
export type ScramSettings = z.infer<typeof scramSettings>
export type PasswordSettings = z.infer<typeof passwordSettings>
export type JwtSettings = z.infer<typeof jwtSettings>
