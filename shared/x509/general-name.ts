import { DerError, DerReader, contextTag, readAscii } from './der.ts'
import { decodeName } from './distinguished-name.ts'
import type { DistinguishedName } from './distinguished-name.ts'

/** GeneralName (RFC 5280 4.2.1.6). Of kinds that are not looked into only the tag is known. */
export type GeneralName =
  | { readonly is: 'email' | 'dns' | 'uri'; readonly text: string }
  /** An address, in a constraint followed by its mask. */
  | { readonly is: 'ip'; readonly octets: Uint8Array }
  | { readonly is: 'directory'; readonly name: DistinguishedName }
  | { readonly is: 'other'; readonly tag: number }

/** @throws {DerError} */
export function readGeneralName(reader: DerReader): GeneralName {
  const { tag, content } = reader.next()
  switch (tag) {
    case contextTag(1, 'primitive'):
      return { is: 'email', text: printable(content) }
    case contextTag(2, 'primitive'):
      return { is: 'dns', text: printable(content) }
    case contextTag(6, 'primitive'):
      return { is: 'uri', text: printable(content) }
    case contextTag(7, 'primitive'):
      return { is: 'ip', octets: content }
    case contextTag(4, 'constructed'):
      return { is: 'directory', name: decodeName(content) }
    default:
      return { is: 'other', tag }
  }
}

function printable(content: Uint8Array): string {
  const text = readAscii(content)
  if (/[\0-\x1f\x7f]/.test(text)) throw new DerError('a name with control characters')
  return text
}

/** @param content of GeneralNames, one at least @throws {DerError} */
export function decodeGeneralNames(content: Uint8Array): readonly GeneralName[] {
  const names: GeneralName[] = []
  for (const reader = DerReader.only(content); !reader.done; ) names.push(readGeneralName(reader))
  if (names.length === 0) throw new DerError('no names')
  return names
}
