import type { TranslatedFields } from './translated-document.ts'

/** Old names of settings → today's, and the method that they belong to. */
const SETTINGS = new Map<string, readonly [now: string, method: string]>([
  ['custom', ['customSettings', 'Custom']],
  ['serviceAccountToken', ['serviceAccountTokenSettings', 'ServiceAccountToken']],
  ['sat', ['serviceAccountTokenSettings', 'ServiceAccountToken']],
  ['x509Credentials', ['x509Settings', 'X509']],
  ['x509', ['x509Settings', 'X509']],
])

/** Old names of methods, in small letters → today's. */
const METHODS = new Map([
  ['x509credentials', 'X509'],
  ['sat', 'ServiceAccountToken'],
])

const REMOVED_METHOD = 'usernamepassword'
const INSTEAD = 'was removed: write method Password with passwordSettings.secretRef, and make the hashes anew with millrace passwd'

/** BrokerAuthentication of the previews. */
export function translateAuthentication(spec: TranslatedFields): void {
  spec.drop('listenerRef', 'is old: the listener names what it uses, in ports[].authenticationRef')
  for (const method of spec.children('authenticationMethods')) translateMethod(method)
}

function translateMethod(method: TranslatedFields): void {
  const given = method.get('method')
  const word = typeof given === 'string' ? given.toLowerCase() : ''
  const now = METHODS.get(word)
  if (now !== undefined) {
    method.warn('method', `${String(given)} is an old name; write ${now}`)
    method.fields['method'] = now
  }
  if (word === REMOVED_METHOD) method.fault('method', INSTEAD)
  if (method.has('usernamePassword')) method.fault('usernamePassword', INSTEAD)
  for (const [old, [settings, name]] of SETTINGS) {
    if (!method.rename(old, settings) || method.has('method')) continue
    // The oldest generation named the method by its settings alone.
    method.warn(old, `there is no method; read as method ${name}`)
    method.fields['method'] = name
  }
  translateCustom(method.child('customSettings'))
  translateX509(method.child('x509Settings'))
}

function translateCustom(settings: TranslatedFields | null): void {
  settings?.rename('caCert', 'caCertConfigMap')
  settings?.child('auth')?.child('x509')?.rename('secretName', 'secretRef')
}

function translateX509(settings: TranslatedFields | null): void {
  if (settings?.has('attributes') !== true) return
  settings.fault('attributes', 'a Secret with attributes as TOML is not read: write them under authorizationAttributes')
}
