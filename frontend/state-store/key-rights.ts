import type { Decision, Permit } from '#shared/authorization/permit.ts'
import type { ExtendedCommand } from '#shared/state-store/command.ts'
import { ErrorText } from '#shared/state-store/errors.ts'
import type { Connection } from '../connection/connection.ts'
import { causeOf } from '../connection/permissions.ts'
import { auditRefusal } from '../connection/refusing.ts'

/**
 * Read for GET, KEYNOTIFY and every key of MGET, Write for what changes (spec state-store.md 11). SCAN and WATCH need Read for whatever may
 * begin with their prefix: the owner of the shard, who answers, does not know the permit. What is refused is a line of the audit.
 */
export function keyFault(connection: Connection, command: ExtendedCommand): ErrorText | null {
  const { permit } = connection
  if (permit === null) return null
  switch (command.is) {
    case 'mget': {
      for (const key of command.keys) if (!mayRead(connection, permit, key)) return ErrorText.NotAuthorized
      return null
    }
    case 'scan':
      return mayReadUnder(connection, permit, command.prefix) ? null : ErrorText.NotAuthorized
    case 'watch':
      return mayReadUnder(connection, permit, Buffer.from(command.prefix, 'latin1')) ? null : ErrorText.NotAuthorized
    case 'get':
    case 'keynotify':
    case 'keep':
      return mayRead(connection, permit, command.key) ? null : ErrorText.NotAuthorized
    case 'set':
    case 'del':
    case 'vdel': {
      const key = Buffer.from(command.key, 'latin1')
      const decision = permit.decideKey(key, 'write')
      if (!decision.allowed) audit(connection, 'writeKey', key, decision)
      return decision.allowed ? null : ErrorText.NotAuthorized
    }
  }
}

/** @param text of the key, a character for each byte */
function mayRead(connection: Connection, permit: Permit, text: string): boolean {
  const key = Buffer.from(text, 'latin1')
  const decision = permit.decideKey(key, 'read')
  if (!decision.allowed) audit(connection, 'readKey', key, decision)
  return decision.allowed
}

function mayReadUnder(connection: Connection, permit: Permit, prefix: Buffer): boolean {
  if (permit.mayReadKeysUnder(prefix)) return true
  audit(connection, 'readKeysUnder', prefix, null)
  return false
}

type KeyAction = 'readKey' | 'writeKey' | 'readKeysUnder'

/** @param decision null: no single rule decides about all keys that begin so */
function audit(connection: Connection, action: KeyAction, key: Buffer, decision: Decision | null): void {
  connection.category.authorizationDenied++
  const cause = decision === null ? 'not every key that begins so may be read' : causeOf(connection, decision)
  auditRefusal(connection, action, { key: keyText(key) }, cause)
}

/** As UTF-8 if that is what it is, else in hexadecimal. */
function keyText(key: Buffer): string {
  const text = key.toString('utf8')
  return Buffer.from(text, 'utf8').equals(key) ? text : `0x${key.toString('hex', 0, HEX_BYTES_MAX)}`
}

/** The audit cuts texts anyway. */
const HEX_BYTES_MAX = 128
