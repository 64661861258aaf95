import { parseTopicFilter } from '#shared/mqtt/topic.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { parseTemplate, PatternFault, type Subject, type Template, tokenText, valueOf } from './template.ts'

/** What a topic cannot hold within a level. */
const NOT_IN_A_LEVEL = /[/+#\0]/
const NOT_IN_A_TOPIC = /[+#\0]/

/** A Topic Filter of a rule, in which each token is a whole level; or why it never matches. */
export function parseTopicTemplate(pattern: string): Template | PatternFault {
  const template = parseTemplate(pattern)
  if (template instanceof PatternFault) return template
  for (const [index, part] of template.entries()) {
    if (typeof part === 'string') continue
    const before = template[index - 1] ?? '/'
    const after = template[index + 1] ?? '/'
    const isLevel = typeof before === 'string' && before.endsWith('/') && typeof after === 'string' && after.startsWith('/')
    if (!isLevel) return new PatternFault(`${tokenText(part)} must be the only text of its level`)
  }
  return faultOfFilter(template.map(part => (typeof part === 'string' ? part : 'x')).join('')) ?? template
}

function faultOfFilter(filter: string): PatternFault | null {
  try {
    if (parseTopicFilter(filter).group === null) return null
    return new PatternFault('a rule names the Topic Filter without $share/{ShareName}/')
  } catch (error) {
    if (error instanceof ProtocolError) return new PatternFault(error.message)
    throw error
  }
}

/**
 * The Topic Filter of this client, or why it has none. A value that is missing, empty or no text of one level must not widen the
 * pattern, so the pattern then matches nothing. The same for one at the first level that begins with `$`, which wildcards there do not
 * match either [MQTT-4.7.2-1]: `{principal.clientId}/#` must not open `$SYS/#` to whoever calls himself so. In a Deny, a value with slashes
 * stands for as many levels instead: otherwise a client that chooses its own Client Identifier could choose one that no Deny applies to.
 */
export function fillTopic(template: Template, subject: Subject, isDenied: boolean): string | PatternFault {
  let filter = ''
  for (const part of template) {
    if (typeof part === 'string') {
      filter += part
      continue
    }
    const value = valueOf(part, subject)
    if (value === null) return new PatternFault(`the client has no ${tokenText(part)}`)
    if ((isDenied ? NOT_IN_A_TOPIC : NOT_IN_A_LEVEL).test(value)) {
      return new PatternFault(`the client's ${tokenText(part)} holds a character that no level of a topic may hold (/ + # or NUL)`)
    }
    if (filter === '' && !isDenied && value.startsWith('$')) {
      return new PatternFault(`the client's ${tokenText(part)} begins with $: topics of the broker itself are opened by name alone`)
    }
    filter += value
  }
  // Too long, too deep, or `$share/…` out of a value `$share`: no topic is meant by that.
  return faultOfFilter(filter) ?? filter
}
