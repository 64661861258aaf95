/**
 * What happens in Redis in one step. Sent whole with EVAL: they are rare and short, and so a restarted server needs no care. All keys of a
 * call are in one slot. `allow-oom`: what they write is tiny, and with full memory shards must still change hands and logs shrink.
 * A write happens on every way to success, so that a WAIT behind it covers what came before (WAIT answers for the last write of its connection).
 */
const SMALL = '#!lua flags=allow-oom\n'

/**
 * Answers whether the caller (ARGV: epoch, id, instance) owns the shard: 'mine', 'fenced' or 'restored'. The last: a failover lost the claim,
 * which is made again, since nobody else has claimed that epoch or a later one.
 */
const OWNERSHIP = `
local log, meta = KEYS[1], KEYS[2]
local mine, id, instance = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local function lastId()
  if redis.call('EXISTS', log) == 0 then return '0-0' end
  local info = redis.call('XINFO', 'STREAM', log)
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then return info[at + 1] end
  end
end
local function lastEpoch()
  return tonumber(string.match(lastId(), '^%d+'))
end
local function claim(epoch)
  if lastEpoch() < epoch then redis.call('XADD', log, string.format('%.0f-0', epoch), 'claim', id .. ' ' .. instance) end
  redis.call('HSET', meta, 'format', '1', 'epoch', string.format('%.0f', epoch), 'id', id, 'instance', instance, 'released', '0')
end
local function ownership()
  local owner = redis.call('HMGET', meta, 'epoch', 'id', 'instance')
  local epoch = tonumber(owner[1] or '0')
  if epoch > mine or (epoch == mine and (owner[2] ~= id or owner[3] ~= instance)) then return 'fenced' end
  if epoch == mine then return 'mine' end
  if lastEpoch() > mine then return 'fenced' end
  claim(mine)
  return 'restored'
end
`

/**
 * KEYS log, meta. ARGV: epoch seen, id, instance, '1' when the state of an owner that did not release is worthless (level memory), prefix of
 * snapshots, format known. Answers the new epoch, or 0 when somebody else was faster, or 'newer N' for a shard in format N.
 * Made twice by the same owner it answers the same. What another owner had begun to write as a snapshot is removed.
 */
export const CLAIM = `${SMALL}${OWNERSHIP}
local found = redis.call('HMGET', meta, 'epoch', 'released', 'id', 'instance', 'writing', 'snap', 'format')
if tonumber(found[7] or '1') > tonumber(ARGV[6]) then return 'newer ' .. found[7] end
local epoch = tonumber(found[1] or '0')
if epoch == mine + 1 and found[3] == id and found[4] == instance and found[2] == '0' then
  redis.call('HSET', meta, 'released', '0')
  return epoch
end
if epoch ~= mine then return 0 end
if found[5] then
  redis.call('UNLINK', ARGV[5] .. found[5])
  redis.call('HDEL', meta, 'writing')
end
if ARGV[4] == '1' and found[2] ~= '1' then
  if found[6] then redis.call('UNLINK', ARGV[5] .. found[6]) end
  redis.call('HDEL', meta, 'snap', 'chunks', 'covered')
  redis.call('XTRIM', log, 'MAXLEN', 0)
end
epoch = math.max(epoch, lastEpoch()) + 1
claim(epoch)
return epoch
`

/** KEYS log, meta. ARGV: epoch, id, instance, position. Answers 'mine', 'fenced', or 'lost' when entries up to the position are missing. */
export const RELEASE = `${SMALL}${OWNERSHIP}
local answer = ownership()
if answer == 'fenced' then return answer end
local epoch, position = string.match(lastId(), '^(%d+)-(%d+)$')
if answer == 'restored' or tonumber(epoch) ~= mine or tonumber(position) < tonumber(ARGV[4]) then return 'lost' end
redis.call('HSET', meta, 'released', '1')
return 'mine'
`

/**
 * KEYS log, meta. ARGV: epoch, id, instance, position. What became of the entries sent over a connection that broke. Answers ownership, the
 * last id of the log, and the positions of this epoch above ARGV[4] that are in it.
 */
export const SYNCHRONISE = `${SMALL}${OWNERSHIP}
local answer = ownership()
if answer == 'fenced' then return { answer, '0-0', {} } end
redis.call('HSET', meta, 'format', '1')
local positions = {}
for _, entry in ipairs(redis.call('XRANGE', log, '(' .. ARGV[1] .. '-' .. ARGV[4], '+')) do
  positions[#positions + 1] = tonumber(string.match(entry[1], '%d+$'))
end
return { answer, lastId(), positions }
`

/** KEYS log. Answers the last id that the log ever had; XINFO by itself would send the first and the last entry too, which may be large. */
export const LAST_ID = `#!lua flags=no-writes
if redis.call('EXISTS', KEYS[1]) == 0 then return '0-0' end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for at = 1, #info, 2 do
  if info[at] == 'last-generated-id' then return info[at + 1] end
end
`

/**
 * KEYS log, meta, chunks. ARGV: epoch, id, instance, prefix of snapshots, snapshot, index, chunk. Adds a chunk; once only, also when called
 * again. The first one removes what a former snapshot left unfinished. Answers 'mine', 'fenced', or 'lost' when chunks before it are missing.
 */
export const ADD_CHUNK = `#!lua
${OWNERSHIP}
if ownership() == 'fenced' then return 'fenced' end
local writing = redis.call('HGET', meta, 'writing')
local index = tonumber(ARGV[6])
if writing ~= ARGV[5] then
  if index > 0 then return 'lost' end
  if writing then redis.call('UNLINK', ARGV[4] .. writing) end
  redis.call('HSET', meta, 'writing', ARGV[5])
end
local length = redis.call('LLEN', KEYS[3])
if length == index + 1 then return 'mine' end
if length ~= index then return 'lost' end
redis.call('RPUSH', KEYS[3], ARGV[7])
return 'mine'
`

/**
 * KEYS log, meta, chunks. ARGV: epoch, id, instance, prefix of snapshots, snapshot, number of chunks, position covered, '1' to raise the last
 * id of the log to it. Puts the snapshot in the place of the former one, which is removed; once only. Answers as ADD_CHUNK.
 */
export const FINISH_SNAPSHOT = `${SMALL}${OWNERSHIP}
if ownership() == 'fenced' then
  redis.call('UNLINK', KEYS[3])
  return 'fenced'
end
local covered = ARGV[1] .. '-' .. ARGV[7]
local former = redis.call('HGET', meta, 'snap')
if former ~= ARGV[5] then
  if redis.call('LLEN', KEYS[3]) ~= tonumber(ARGV[6]) then return 'lost' end
  if former then redis.call('UNLINK', ARGV[4] .. former) end
end
redis.call('HSET', meta, 'snap', ARGV[5], 'chunks', ARGV[6], 'covered', covered)
redis.call('HDEL', meta, 'writing')
if ARGV[8] == '1' and tonumber(string.match(lastId(), '%d+$')) < tonumber(ARGV[7]) then redis.call('XSETID', log, covered) end
return 'mine'
`

/**
 * KEYS log, meta. ARGV: what the snapshot covers, the first id to be kept, number of entries. Removes entries that the valid snapshot covers;
 * after a failover that may be an older one than we finished. Answers how many. Approximately: whole nodes of the stream, which costs least.
 */
export const TRIM = `${SMALL}
if redis.call('HGET', KEYS[2], 'covered') ~= ARGV[1] then return 0 end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', ARGV[2], 'LIMIT', ARGV[3])
`

/** KEYS meta, chunks. ARGV: snapshot. Removes an unfinished snapshot. */
export const ABANDON_SNAPSHOT = `${SMALL}
redis.call('UNLINK', KEYS[2])
if redis.call('HGET', KEYS[1], 'writing') == ARGV[1] then redis.call('HDEL', KEYS[1], 'writing') end
return 'mine'
`

/** KEYS config. ARGV: format, shard count. Creates what is missing; answers what is there. */
export const CONFIGURE = `${SMALL}
local found = redis.call('HMGET', KEYS[1], 'format', 'shards')
if not found[1] then
  redis.call('HSET', KEYS[1], 'format', ARGV[1], 'shards', ARGV[2])
  return { ARGV[1], ARGV[2] }
end
return found
`
