/** Who asks: as the authentication method proved it, except for the Client Identifier, which nobody proves. */
export interface Subject {
  readonly clientId: string
  /** Empty where none is verified: it matches no rule and fills no token. */
  readonly userName: string
  readonly attributes: ReadonlyMap<string, string>
}

/** `{principal.clientId}`, `{principal.username}` or `{principal.attributes.NAME}` in a pattern of a rule. */
export type Token = { readonly of: 'clientId' } | { readonly of: 'userName' } | { readonly of: 'attribute'; readonly name: string }

/** Text and tokens of a pattern in turn. */
export type Template = readonly (string | Token)[]

/** Why a pattern can never match, whoever asks. */
export class PatternFault {
  readonly message: string

  constructor(message: string) {
    this.message = message
  }
}

const TOKEN_START = '{principal.'
const ATTRIBUTE = 'attributes.'

/** Splits a pattern at its tokens. Braces that begin no token are text. Linear. */
export function parseTemplate(pattern: string): Template | PatternFault {
  const parts: (string | Token)[] = []
  let at = 0
  for (;;) {
    const start = pattern.indexOf(TOKEN_START, at)
    if (start === -1) break
    const end = pattern.indexOf('}', start)
    if (end === -1) return new PatternFault(`${TOKEN_START} has no closing brace`)
    const token = tokenOf(pattern.slice(start + TOKEN_START.length, end))
    if (token === null) {
      return new PatternFault(
        `there is no token ${pattern.slice(start, end + 1)}; there are {principal.clientId}, {principal.username}, {principal.attributes.NAME}`,
      )
    }
    if (start > at) parts.push(pattern.slice(at, start))
    parts.push(token)
    at = end + 1
  }
  if (at < pattern.length || parts.length === 0) parts.push(pattern.slice(at))
  return parts
}

function tokenOf(text: string): Token | null {
  if (text === 'clientId') return { of: 'clientId' }
  if (text === 'username') return { of: 'userName' }
  if (!text.startsWith(ATTRIBUTE) || text.length === ATTRIBUTE.length) return null
  return { of: 'attribute', name: text.slice(ATTRIBUTE.length) }
}

/** What stands for the token; null when the client has none. An empty value counts as none: it must not turn `{…}*` into `*`. */
export function valueOf(token: Token, subject: Subject): string | null {
  const value = token.of === 'attribute' ? subject.attributes.get(token.name) : subject[token.of]
  return value === undefined || value === '' ? null : value
}

/** As written in a rule. */
export function tokenText(token: Token): string {
  if (token.of === 'attribute') return `{principal.attributes.${token.name}}`
  return token.of === 'clientId' ? '{principal.clientId}' : '{principal.username}'
}
