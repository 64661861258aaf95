import type { AuthenticationMethodSpec } from '#shared/resources/broker-authentication.ts'
import { type AuthenticationMethod, MethodFault, type MethodParts } from './authentication-method.ts'
import { makeCustom } from './custom.ts'
import { makeServiceAccountToken } from './service-account-token.ts'

/**
 * Makes a method from its entry in `authenticationMethods`.
 * @throws {MethodFault} what it refers to is missing or cannot be used
 */
export type MethodMaker = (spec: AuthenticationMethodSpec, parts: MethodParts) => AuthenticationMethod

/** By `method`. An entry of a method that is not here keeps its ports closed. */
export type MethodMakers = Partial<Record<AuthenticationMethodSpec['method'], MethodMaker>>

/** Every way to authenticate that there is. */
export const METHOD_MAKERS: MethodMakers = {
  Custom: ({ customSettings }, parts) => makeCustom(given(customSettings, 'customSettings'), parts),
  ServiceAccountToken: ({ serviceAccountTokenSettings: settings }, parts) =>
    makeServiceAccountToken(given(settings, 'serviceAccountTokenSettings'), parts),
}

function given<T>(settings: T | undefined, name: string): T {
  if (settings === undefined) throw new MethodFault(`${name} are missing`)
  return settings
}
