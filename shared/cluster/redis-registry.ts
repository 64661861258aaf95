import { systemTimers, type Timers } from '#shared/base/timers.ts'
import type { RedisUrl } from '#shared/config/redis-url.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { decodeMember, encodeMember, MEMBER_BYTES_MAX } from './member-codec.ts'
import type { RunRegistry } from './cluster-run.ts'
import { EvictedError, HEARTBEAT_MS, LEASE_MS, type Member, type Registry } from './member.ts'
import type { RedisTls } from './redis-connection.ts'
import { RedisPrimary } from './redis-primary.ts'

/** Entries that are no members and were logged, so that each is logged once. Beyond, further ones are passed over in silence. */
const STRANGERS_LOGGED_MAX = 32
/** When nobody at all was heard of for so long, it was Redis that was away. */
const OUTAGE_MS = 2 * HEARTBEAT_MS

/*
 * All members are one hash: `ROLE:ID` → `EXPIRY INSTANCE-LENGTH INSTANCE JSON`, so that a script needs one key, and finds what it must
 * know of an entry without reading JSON; and `evicted:INSTANCE` → `EXPIRY` for those that may not renew their lease. EXPIRY is in
 * milliseconds of Redis's clock. Should that clock be set back, entries end a lease later than now at the latest. Entries of another form are
 * left alone: a newer version may have put them there.
 *
 * After an outage of Redis nobody has renewed anything. Were those that come back first to find the others gone, they would take all shards
 * for as long as it takes the others to come back; so who was living when Redis was last heard has one more lease.
 *
 * ARGV: lease, outage, field, instance, JSON.
 */
const HEARTBEAT = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[1])
local ends = string.format('%.0f', now + lease)
local evicted = tonumber(redis.call('HGET', KEYS[1], 'evicted:' .. ARGV[4]) or '0') or 0
if evicted > now and evicted <= now + lease then return 'evicted' end
local entries = redis.call('HGETALL', KEYS[1])
local lastHeard = 0
for i = 1, #entries, 2 do
  local expiry = string.match(entries[i + 1], '^(%d+) %d+ ')
  if expiry and tonumber(expiry) - lease > lastHeard then lastHeard = tonumber(expiry) - lease end
end
local wasOut = now - lastHeard > tonumber(ARGV[2])
local living = {}
local function add(field, rest, length)
  living[#living + 1] = field
  if rest and #rest <= ${MEMBER_BYTES_MAX} then living[#living + 1] = string.sub(rest, length + 2) else living[#living + 1] = '' end
end
for i = 1, #entries, 2 do
  local field = entries[i]
  local expiry, length, rest = string.match(entries[i + 1], '^(%d+) (%d+) (.*)$')
  local isLiving = expiry and (tonumber(expiry) > now or (wasOut and tonumber(expiry) > lastHeard))
  if string.sub(field, 1, 8) == 'evicted:' then
    if (tonumber(entries[i + 1]) or 0) <= now then redis.call('HDEL', KEYS[1], field) end
  elseif field == ARGV[3] then
    -- Written below.
  elseif expiry and not isLiving then
    redis.call('HDEL', KEYS[1], field)
  else
    if expiry and (wasOut or tonumber(expiry) > now + lease) then
      redis.call('HSET', KEYS[1], field, ends .. ' ' .. length .. ' ' .. rest)
    end
    add(field, rest, length)
  end
end
local own = ARGV[4] .. ' ' .. ARGV[5]
redis.call('HSET', KEYS[1], ARGV[3], ends .. ' ' .. #ARGV[4] .. ' ' .. own)
add(ARGV[3], own, #ARGV[4])
redis.call('PEXPIRE', KEYS[1], lease * 100)
return living
`

/** ARGV: for how long the instance may not come back (0: it may), instance, fields. */
const REMOVE = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local removed = 0
for i = 3, #ARGV do
  local entry = redis.call('HGET', KEYS[1], ARGV[i])
  local length, rest = string.match(entry or '', '^%d+ (%d+) (.*)$')
  if length and string.sub(rest, 1, length) == ARGV[2] then removed = removed + redis.call('HDEL', KEYS[1], ARGV[i]) end
end
if removed > 0 and tonumber(ARGV[1]) > 0 then
  redis.call('HSET', KEYS[1], 'evicted:' .. ARGV[2], string.format('%.0f', now + ARGV[1]))
  redis.call('PEXPIRE', KEYS[1], ARGV[1] * 100)
end
return removed
`

/** ARGV: lease, proposal. */
const JOIN_RUN = `
local run = redis.call('GET', KEYS[1]) or ARGV[2]
if run == '' then return false end
redis.call('SET', KEYS[1], run, 'PX', ARGV[1])
return run
`

/** The last backend has left. */
const END_RUN = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local entries = redis.call('HGETALL', KEYS[1])
for i = 1, #entries, 2 do
  local expiry = string.match(entries[i + 1], '^(%d+) ')
  if string.sub(entries[i], 1, 8) == 'backend:' and expiry and tonumber(expiry) > now then return 0 end
end
return redis.call('DEL', KEYS[2])
`

export interface RedisRegistryOptions {
  readonly url: RedisUrl
  readonly tls?: RedisTls
  /** Clusters of other names in the same Redis do not see each other. No braces. */
  readonly clusterName: string
  readonly log: Log
  readonly timers?: Timers
}

/**
 * The registry in Redis, over a connection of its own: what waits behind a large snapshot there would come too late. The key of all members
 * is `millrace:NAME:{members}`, and `millrace:NAME:{members}:run` names the run of its backends.
 */
export class RedisRegistry implements Registry, RunRegistry {
  readonly #primary: RedisPrimary
  readonly #key: string
  readonly #log: Log
  readonly #strangers = new Set<string>()
  #isEvicted = false

  constructor(options: RedisRegistryOptions) {
    const { url, tls, clusterName, log, timers = systemTimers } = options
    this.#key = `millrace:${clusterName}:{members}`
    this.#log = log
    this.#primary = new RedisPrimary({
      url,
      ...(tls !== undefined && { tls }),
      connectionName: 'millrace-members',
      key: this.#key,
      timers,
    })
  }

  /** Why the last call failed, for the operator: `10.0.0.1:6379: wrong password`. Empty when it was answered. */
  get fault(): string {
    return this.#isEvicted ? new EvictedError().message : this.#primary.fault
  }

  async heartbeat(self: Member): Promise<readonly Member[]> {
    const field = fieldOf(self.role, self.id)
    const reply = await this.#primary.call('EVAL', HEARTBEAT, 1, this.#key, LEASE_MS, OUTAGE_MS, field, self.instance, encodeMember(self))
    this.#isEvicted = reply === 'evicted'
    if (this.#isEvicted) throw new EvictedError()
    return this.#membersOf(reply)
  }

  async evict(id: string, instance: string): Promise<void> {
    const fields = (['frontend', 'backend', 'authsvc'] as const).map(role => fieldOf(role, id))
    await this.#primary.call('EVAL', REMOVE, 1, this.#key, LEASE_MS, instance, ...fields)
  }

  async leave(self: Member): Promise<void> {
    await this.#primary.call('EVAL', REMOVE, 1, this.#key, 0, self.instance, fieldOf(self.role, self.id))
  }

  async joinRun(proposal: string): Promise<string | null> {
    const reply = await this.#primary.call('EVAL', JOIN_RUN, 1, `${this.#key}:run`, LEASE_MS, proposal)
    return typeof reply === 'string' ? reply : null
  }

  async endRun(): Promise<void> {
    await this.#primary.call('EVAL', END_RUN, 2, this.#key, `${this.#key}:run`)
  }

  /** Ends the connection; nothing is unregistered. */
  close(): void {
    this.#primary.close()
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
}

function fieldOf(role: Member['role'], id: string): string {
  return `${role}:${id}`
}
