import type { Cluster, Redis } from 'ioredis'
import type { RedisUrl } from '#shared/config/redis-url.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { decodeMember, encodeMember, MEMBER_BYTES_MAX } from './member-codec.ts'
import { LEASE_MS, type Member, type Registry } from './member.ts'
import { openRedis, type RedisTls } from './redis-connection.ts'
import { redisFaultText } from './redis-fault.ts'

/** A heartbeat that Redis has not answered for so long has failed; two more fit into the lease. */
const COMMAND_TIMEOUT_MS = 1_000
/** Entries that are no members and were logged, so that each is logged once. Beyond, further ones are passed over in silence. */
const STRANGERS_LOGGED_MAX = 32

/*
 * All members are one hash: `ROLE:ID` → `EXPIRY INSTANCE-LENGTH INSTANCE JSON`, so that a script needs one key, and finds what it must
 * know of an entry without reading JSON. EXPIRY is in milliseconds of Redis's clock. Should that clock be set back, entries end a lease
 * later than now at the latest. Entries of another form are left alone: a newer version may have put them there.
 */
const HEARTBEAT = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[1])
redis.call('HSET', KEYS[1], ARGV[2], string.format('%.0f', now + lease) .. ' ' .. #ARGV[3] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
local entries = redis.call('HGETALL', KEYS[1])
local living = {}
for i = 1, #entries, 2 do
  local expiry, length, rest = string.match(entries[i + 1], '^(%d+) (%d+) (.*)$')
  if expiry and tonumber(expiry) <= now then
    redis.call('HDEL', KEYS[1], entries[i])
  else
    if expiry and tonumber(expiry) > now + lease then
      redis.call('HSET', KEYS[1], entries[i], string.format('%.0f', now + lease) .. ' ' .. length .. ' ' .. rest)
    end
    living[#living + 1] = entries[i]
    if rest and #rest <= ${MEMBER_BYTES_MAX} then living[#living + 1] = string.sub(rest, length + 2) else living[#living + 1] = '' end
  end
end
redis.call('PEXPIRE', KEYS[1], lease * 100)
return living
`

const REMOVE = `
local removed = 0
for i = 2, #ARGV do
  local entry = redis.call('HGET', KEYS[1], ARGV[i])
  local length, rest = string.match(entry or '', '^%d+ (%d+) (.*)$')
  if length and string.sub(rest, 1, length) == ARGV[1] then removed = removed + redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return removed
`

export interface RedisRegistryOptions {
  readonly url: RedisUrl
  readonly tls?: RedisTls
  /** Clusters of other names in the same Redis do not see each other. No braces. */
  readonly clusterName: string
  readonly log: Log
}

/**
 * The registry in Redis, over a connection of its own: what waits behind a large snapshot there would come too late. The key of all members
 * is `millrace:NAME:{members}`.
 */
export class RedisRegistry implements Registry {
  readonly #redis: Redis | Cluster
  readonly #key: string
  readonly #log: Log
  readonly #strangers = new Set<string>()
  #lastError = ''

  constructor(options: RedisRegistryOptions) {
    this.#key = `millrace:${options.clusterName}:{members}`
    this.#log = options.log
    this.#redis = openRedis(options.url, {
      ...(options.tls !== undefined && { tls: options.tls }),
      connectionName: 'millrace-members',
      commandTimeoutMs: COMMAND_TIMEOUT_MS,
      connectTimeoutMs: COMMAND_TIMEOUT_MS,
      onError: error => this.#onError(error),
    })
  }

  async heartbeat(self: Member): Promise<readonly Member[]> {
    const reply = await this.#redis.eval(HEARTBEAT, 1, this.#key, LEASE_MS, fieldOf(self.role, self.id), self.instance, encodeMember(self))
    this.#lastError = ''
    return this.#membersOf(reply)
  }

  async evict(id: string, instance: string): Promise<void> {
    const fields = (['frontend', 'backend', 'authsvc'] as const).map(role => fieldOf(role, id))
    await this.#redis.eval(REMOVE, 1, this.#key, instance, ...fields)
  }

  async leave(self: Member): Promise<void> {
    await this.#redis.eval(REMOVE, 1, this.#key, self.instance, fieldOf(self.role, self.id))
  }

  /** Ends the connection; nothing is unregistered. */
  close(): void {
    this.#redis.disconnect()
  }

  #membersOf(reply: unknown): readonly Member[] {
    const members: Member[] = []
    const texts = Array.isArray(reply) ? (reply as readonly unknown[]) : []
    for (let at = 0; at + 1 < texts.length; at += 2) {
      const field = String(texts[at])
      const member = decodeMember(String(texts[at + 1]))
      if (member !== null && fieldOf(member.role, member.id) === field) members.push(member)
      else this.#onStranger(field)
    }
    return members
  }

  #onStranger(field: string): void {
    if (this.#strangers.has(field) || this.#strangers.size >= STRANGERS_LOGGED_MAX) return
    this.#strangers.add(field)
    this.#log.warn('registry_entry_ignored', { key: this.#key, field })
  }

  /** The client tries again several times a second: a fault is logged when it is another than the last. */
  #onError(error: Error): void {
    const text = redisFaultText(error)
    if (text === this.#lastError) return
    this.#lastError = text
    this.#log.warn('registry_connection_failed', { reason: text })
  }
}

function fieldOf(role: Member['role'], id: string): string {
  return `${role}:${id}`
}
