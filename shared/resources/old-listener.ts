import { fieldsOf } from '../kubernetes/kubernetes-object.ts'
import type { ResourceDocument } from './resource-document.ts'
import type { TranslatedFields } from './translated-document.ts'

/** `KIND/LISTENER` → names of the resources of that kind whose `listenerRef` names the listener. */
export type ListenerRefs = ReadonlyMap<string, readonly string[]>

/** Each reference of the oldest generation points at the listener; today's points the other way. */
const REFERENCES = [
  { kind: 'BrokerAuthentication', field: 'authenticationRef', switch: 'authenticationEnabled' },
  { kind: 'BrokerAuthorization', field: 'authorizationRef', switch: 'authorizationEnabled' },
] as const

/** Fields that belonged to the listener when it had one port. */
const PORT_FIELDS = ['port', 'nodePort', 'protocol', 'tls'] as const

/** Which resources of a directory point at which listener; read before any of them is translated. */
export function listenerRefs(documents: readonly ResourceDocument[]): ListenerRefs {
  const refs = new Map<string, string[]>()
  for (const { value } of documents) {
    const { kind, metadata, spec } = fieldsOf(value)
    const { name } = fieldsOf(metadata)
    if (typeof kind !== 'string' || typeof name !== 'string') continue
    for (const listener of [fieldsOf(spec)['listenerRef']].flat()) {
      if (typeof listener !== 'string') continue
      const key = `${kind}/${listener}`
      const names = refs.get(key)
      if (names === undefined) refs.set(key, [name])
      else names.push(name)
    }
  }
  return refs
}

/** BrokerListener of the previews. */
export function translateListener(spec: TranslatedFields, name: string, refs: ListenerRefs): void {
  if (spec.has('port') && !spec.has('ports')) onePort(spec)
  else if (spec.has('port')) spec.fault('port', 'is an old name of ports[0].port, and ports is given too; keep ports')
  const ports = spec.children('ports')
  for (const reference of REFERENCES) translateReference(spec, ports, refs.get(`${reference.kind}/${name}`) ?? [], reference)
  for (const port of ports) translateTls(port.child('tls'))
}

/** One port, with its fields beside those of the listener. */
function onePort(spec: TranslatedFields): void {
  const port: Record<string, unknown> = {}
  spec.put('port', ['ports'])
  spec.put('port', ['ports', 0])
  for (const field of PORT_FIELDS) {
    if (!spec.has(field)) continue
    spec.warn(field, `is old: write ports[0].${field}`)
    spec.put(field, ['ports', 0, field])
    port[field] = spec.get(field)
    delete spec.fields[field]
  }
  spec.fields['ports'] = [port]
}

/**
 * A switch at the listener and `listenerRef` at what it switches on. Fails closed: without the switch, whoever points at the listener
 * counts; what cannot be told is a fault.
 */
function translateReference(
  spec: TranslatedFields,
  ports: readonly TranslatedFields[],
  names: readonly string[],
  { kind, field, switch: name }: (typeof REFERENCES)[number],
): void {
  const given = spec.get(name)
  if (given !== undefined && typeof given !== 'boolean')
    return spec.fault(name, 'expected true or false; it is old: write ports[].' + field)
  const isOn = given ?? names.length > 0
  const at = spec.has(name) ? name : 'ports'
  spec.drop(name, `is old: write ports[].${field}`)
  const open = ports.filter(port => !port.has(field))
  if (!isOn || open.length === 0) return
  const [only] = names
  if (only === undefined || names.length > 1) {
    const found = only === undefined ? `no ${kind} names` : `${names.join(' and ')} name`
    return spec.fault(at, `${found} this listener in listenerRef; write ports[].${field}`)
  }
  spec.warn(at, `${kind} ${only} names this listener in listenerRef; write ports[].${field}: ${only}`)
  for (const port of open) port.fields[field] = only
}

function translateTls(tls: TranslatedFields | null): void {
  if (tls === null) return
  const hasAutomatic = tls.rename('automatic', 'certManagerCertificateSpec')
  const manual = tls.child('manual')
  const hasSecretName = manual?.rename('secretName', 'secretRef') === true
  const elsewhere = 'has no effect: the secret stands beside the resource'
  manual?.drop('secretNamespace', elsewhere)
  tls.child('certManagerCertificateSpec')?.drop('secretNamespace', elsewhere)
  if (tls.has('mode') || hasAutomatic === hasSecretName) return
  const mode = hasAutomatic ? 'Automatic' : 'Manual'
  tls.warn(hasAutomatic ? 'automatic' : 'manual', `there is no mode; write mode ${mode}`)
  tls.fields['mode'] = mode
}
