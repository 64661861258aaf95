import { FIGURES_MAX, type Member } from './member.ts'

/** Bytes of one member in the registry; a longer entry is not one of ours. */
export const MEMBER_BYTES_MAX = 16 * 1_024
const TEXT_LENGTH_MAX = 512
const ROLES: readonly Member['role'][] = ['frontend', 'backend', 'authsvc']

/** A member as the registry keeps it. */
export function encodeMember(member: Member): string {
  const { role, id, instance, address, isLeaving } = member
  return JSON.stringify({ role, id, instance, address, isLeaving, figures: [...(member.figures ?? [])].slice(0, FIGURES_MAX) })
}

/** The member, or null when `text`, which may come from anybody who can write to Redis, is none. Unknown fields are passed over. */
export function decodeMember(text: string): Member | null {
  const fields = text.length <= MEMBER_BYTES_MAX ? parsed(text) : null
  if (fields === null) return null
  const { id, instance, address, isLeaving } = fields
  const role = ROLES.find(each => each === fields['role'])
  const figures = figuresOf(fields['figures'])
  if (role === undefined || figures === null) return null
  if (!isText(id) || id === '' || !isText(instance) || !isText(address) || typeof isLeaving !== 'boolean') return null
  return { role, id, instance, address, isLeaving, figures }
}

interface Fields {
  readonly [name: string]: unknown
}

function parsed(text: string): Fields | null {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Fields) : null
  } catch {
    return null
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length <= TEXT_LENGTH_MAX
}

function figuresOf(value: unknown): ReadonlyMap<string, number> | null {
  if (value === undefined) return new Map()
  if (!Array.isArray(value) || value.length > FIGURES_MAX) return null
  const figures = new Map<string, number>()
  for (const pair of value as readonly unknown[]) {
    if (!Array.isArray(pair)) return null
    const [name, figure] = pair as readonly unknown[]
    if (!isText(name) || typeof figure !== 'number') return null
    figures.set(name, figure)
  }
  return figures
}
