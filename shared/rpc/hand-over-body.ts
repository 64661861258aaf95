import type { ByteReader } from '#shared/base/byte-reader.ts'
import type { ByteWriter } from '#shared/base/byte-writer.ts'
import {
  readBelow,
  readClientId,
  readGroup,
  readId,
  readMqttText,
  readShard,
  readShardList,
  readText,
  writeGroup,
  writeId,
  writeShard,
  writeShardList,
} from './body-fields.ts'
import type { HandOverTarget } from './owner-port.ts'

const SHARDS = 0
const MEMBER = 1
const SESSION = 2

const OUTCOMES = ['done', 'moved'] as const

export function writeHandOverTarget(writer: ByteWriter, target: HandOverTarget): void {
  if (target.is === 'shards') {
    writer.u8(SHARDS)
    writeShardList(writer, target.shards)
    writer.text(target.origin)
  } else if (target.is === 'session') {
    writer.u8(SESSION)
    writeShard(writer, target.shard)
    writer.text(target.clientId)
    writer.text(target.frontend)
    writeId(writer, target.connection)
  } else {
    writer.u8(MEMBER)
    writeShard(writer, target.shard)
    writer.text(target.clientId)
    writeGroup(writer, target)
  }
}

export function readHandOverTarget(reader: ByteReader, shardCount: number, levelsMax: number): HandOverTarget {
  const kind = readBelow(reader, 3, 'a target')
  if (kind === SHARDS) return { is: 'shards', shards: readShardList(reader, shardCount) ?? [], origin: readMqttText(reader) }
  const shard = readShard(reader, shardCount)
  if (kind === SESSION)
    return { is: 'session', shard, clientId: readClientId(reader), frontend: readText(reader), connection: readId(reader) }
  // Empty: for the group itself.
  const clientId = readMqttText(reader)
  const { groupName, groupFilter } = readGroup(reader, levelsMax)
  return { is: 'member', shard, clientId, groupName, groupFilter }
}

export function writeOutcome(writer: ByteWriter, outcome: (typeof OUTCOMES)[number]): void {
  writer.u8(OUTCOMES.indexOf(outcome))
}

export function readOutcome(reader: ByteReader): (typeof OUTCOMES)[number] {
  return OUTCOMES[readBelow(reader, OUTCOMES.length, 'an outcome')]!
}
