import type { AuthenticationMethodSpec } from '#shared/resources/broker-authentication.ts'
import { type AuthenticationMethod, MethodFault, type MethodParts } from './authentication-method.ts'
import { makeCustom } from './custom.ts'
import { makeJwt } from './jwt.ts'
import { makePassword } from './password.ts'
import { makeScram } from './scram.ts'
import { makeServiceAccountToken } from './service-account-token.ts'
import { makeX509 } from './x509.ts'

/**
 * Makes a method from its entry in `authenticationMethods`.
 * @throws {MethodFault} what it refers to is missing or cannot be used
 */
export type MethodMaker = (spec: AuthenticationMethodSpec, parts: MethodParts) => AuthenticationMethod

/** By `method`. */
export type MethodMakers = Readonly<Record<AuthenticationMethodSpec['method'], MethodMaker>>

/** Every way to authenticate that there is. */
export const METHOD_MAKERS: MethodMakers = {
  // All of them have defaults.
  X509: ({ x509Settings = {} }, parts) => makeX509(x509Settings, parts),
  Scram: ({ scramSettings }, parts) => makeScram(given(scramSettings, 'scramSettings'), parts),
  Password: ({ passwordSettings }, parts) => makePassword(given(passwordSettings, 'passwordSettings'), parts),
  Jwt: ({ jwtSettings }, parts) => makeJwt(given(jwtSettings, 'jwtSettings'), parts),
  Custom: ({ customSettings }, parts) => makeCustom(given(customSettings, 'customSettings'), parts),
  ServiceAccountToken: ({ serviceAccountTokenSettings: settings }, parts) =>
    makeServiceAccountToken(given(settings, 'serviceAccountTokenSettings'), parts),
}

function given<T>(settings: T | undefined, name: string): T {
  if (settings === undefined) throw new MethodFault(`${name} are missing`)
  return settings
}
