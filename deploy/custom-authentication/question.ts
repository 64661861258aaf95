import type { EnhancedAuthentication, Question } from './decide.ts'

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/** What the body of a request asks; null: it is not what the API describes. Unknown fields are passed over. */
export function parseQuestion(text: string): Question | null {
  try {
    const body: unknown = JSON.parse(text)
    return isObject(body) ? questionOf(body) : null
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof WrongField) return null
    throw error
  }
}

class WrongField extends Error {}

type Fields = Readonly<Record<string, unknown>>

function questionOf(body: Fields): Question | null {
  const enhancedAuthentication = enhancedOf(body['enhancedAuthentication'])
  if (body['type'] === 'auth') return enhancedAuthentication === null ? null : { type: 'auth', enhancedAuthentication }
  if (body['type'] !== 'connect') return null
  return {
    type: 'connect',
    username: textOf(body['username']),
    password: bytesOf(body['password']),
    certs: textOf(body['certs']),
    enhancedAuthentication,
  }
}

function enhancedOf(value: unknown): EnhancedAuthentication | null {
  if (value === undefined || value === null) return null
  const method = isObject(value) ? textOf(value['method']) : null
  if (!isObject(value) || method === null) throw new WrongField()
  return { method, data: bytesOf(value['data']) }
}

function textOf(value: unknown): string | null {
  if (value === undefined || value === null) return null
  if (typeof value !== 'string') throw new WrongField()
  return value
}

function bytesOf(value: unknown): Buffer | null {
  const text = textOf(value)
  if (text !== null && !BASE64.test(text)) throw new WrongField()
  return text === null ? null : Buffer.from(text, 'base64')
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
