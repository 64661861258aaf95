/** Names under which an attribute type of a distinguished name is written, by object identifier: RFC 4514, RFC 4519 and what OpenSSL prints. */
const NAMES: readonly (readonly [oid: string, ...names: readonly string[]])[] = [
  ['2.5.4.3', 'CN', 'commonName'],
  ['2.5.4.4', 'SN', 'surname'],
  ['2.5.4.5', 'serialNumber'],
  ['2.5.4.6', 'C', 'countryName'],
  ['2.5.4.7', 'L', 'localityName'],
  ['2.5.4.8', 'ST', 'S', 'stateOrProvinceName'],
  ['2.5.4.9', 'street', 'streetAddress'],
  ['2.5.4.10', 'O', 'organizationName'],
  ['2.5.4.11', 'OU', 'organizationalUnitName'],
  ['2.5.4.12', 'T', 'title'],
  ['2.5.4.13', 'description'],
  ['2.5.4.15', 'businessCategory'],
  ['2.5.4.17', 'postalCode'],
  ['2.5.4.41', 'name'],
  ['2.5.4.42', 'GN', 'givenName'],
  ['2.5.4.43', 'initials'],
  ['2.5.4.44', 'generationQualifier'],
  ['2.5.4.45', 'x500UniqueIdentifier'],
  ['2.5.4.46', 'dnQualifier'],
  ['2.5.4.65', 'pseudonym'],
  ['2.5.4.97', 'organizationIdentifier'],
  ['0.9.2342.19200300.100.1.1', 'UID', 'userId'],
  ['0.9.2342.19200300.100.1.25', 'DC', 'domainComponent'],
  ['1.2.840.113549.1.9.1', 'emailAddress', 'E', 'email'],
  ['1.3.6.1.4.1.311.60.2.1.1', 'jurisdictionL', 'jurisdictionLocalityName'],
  ['1.3.6.1.4.1.311.60.2.1.2', 'jurisdictionST', 'jurisdictionStateOrProvinceName'],
  ['1.3.6.1.4.1.311.60.2.1.3', 'jurisdictionC', 'jurisdictionCountryName'],
]

const OIDS = new Map(NAMES.flatMap(([oid, ...names]) => names.map(name => [name.toLowerCase(), oid] as const)))
const OID = /^(?:oid\.)?([0-2](?:\.(?:0|[1-9]\d{0,15})){1,32})$/i

export const COMMON_NAME = '2.5.4.3'
export const EMAIL_ADDRESS = '1.2.840.113549.1.9.1'

/** Object identifier of an attribute type written as a name in any case or as numbers; null when it is neither. */
export function attributeTypeOid(text: string): string | null {
  return OIDS.get(text.toLowerCase()) ?? OID.exec(text)?.[1] ?? null
}

const FIRST_NAMES = new Map(NAMES.map(([oid, name]) => [oid, name!] as const))

/** The usual name of an attribute type; its numbers when there is none. */
export function attributeTypeName(oid: string): string {
  return FIRST_NAMES.get(oid) ?? oid
}
