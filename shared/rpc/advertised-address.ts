import type { LinkAddress } from './link-address.ts'

/** The address that others dial: port 0 of what is advertised is the one that was bound. */
export function advertisedAddress(advertise: LinkAddress | null, bound: LinkAddress): LinkAddress {
  if (advertise === null || 'path' in advertise) return advertise ?? bound
  return advertise.port === 0 && 'port' in bound ? { host: advertise.host, port: bound.port } : advertise
}
