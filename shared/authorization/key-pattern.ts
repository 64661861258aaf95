import { type GlobPart, type GlobTemplate, literalPart, parseGlob } from './glob.ts'
import { PatternFault, tokenText } from './template.ts'

/** How a resource writes keys of the state store: as a glob, as they are, or in base64. */
export type KeyType = 'Pattern' | 'String' | 'Binary'

export const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/** What a rule says of keys; its tokens wait for a client. */
export function keyTemplate(text: string, keyType: KeyType): GlobTemplate | PatternFault {
  if (keyType === 'Pattern') return parseGlob(text, 'key')
  if (keyType === 'String') return [literalPart(text)]
  return [{ is: 'literal', bytes: Buffer.from(text, 'base64') }]
}

/** The same where nobody is asking, so that a token stands for nothing. */
export function keyGlob(text: string, keyType: KeyType): readonly GlobPart[] | PatternFault {
  const template = keyTemplate(text, keyType)
  if (template instanceof PatternFault) return template
  const parts: GlobPart[] = []
  for (const part of template) {
    if (!('is' in part)) return new PatternFault(`there is no client here that ${tokenText(part)} could stand for`)
    parts.push(part)
  }
  return parts
}
