import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import type { ByteWriter } from '#shared/base/byte-writer.ts'
import { readBelow, readClientId, readCount, readGroup, readSubscriptionIdentifier, writeGroup } from './body-fields.ts'
import type { MemberChange, MemberOptions, MemberStanding, Standing } from './owner-port.ts'
import { upToTwo } from './subscription-body.ts'

const STANDINGS = ['able', 'busy', 'away', 'full'] as const

const QOS = 0b0011
const RETAIN_AS_PUBLISHED = 0b0100
const IS_MEMBER = 0b1000
const FLAGS_LIMIT = 0b1_0000

/** Three texts of one character, standing, flags. */
const CHANGE_BYTES_MIN = 8
const STATE_BYTES_MIN = 3

export function writeMemberChanges(writer: ByteWriter, members: readonly MemberChange[]): void {
  writer.varint(members.length)
  for (const member of members) {
    writeGroup(writer, member)
    writer.text(member.clientId)
    writeStanding(writer, member.standing)
    const { options } = member
    writer.u8(options === null ? 0 : IS_MEMBER | options.qos | (options.retainAsPublished ? RETAIN_AS_PUBLISHED : 0))
    if (options !== null) writer.varint(options.identifier)
  }
}

export function readMemberChanges(reader: ByteReader, levelsMax: number): MemberChange[] {
  const members: MemberChange[] = []
  for (let left = readCount(reader, CHANGE_BYTES_MIN); left > 0; left--) {
    const { groupName, groupFilter } = readGroup(reader, levelsMax)
    const clientId = readClientId(reader)
    const standing = readStanding(reader)
    members.push({ groupName, groupFilter, clientId, options: readOptions(reader), standing })
  }
  return members
}

function readOptions(reader: ByteReader): MemberOptions | null {
  const flags = readBelow(reader, FLAGS_LIMIT, 'flags of a member')
  if (flags === 0) return null
  if ((flags & IS_MEMBER) === 0) throw new ByteReaderError('options of one who is no member')
  return {
    qos: upToTwo(flags & QOS, 'QoS'),
    retainAsPublished: (flags & RETAIN_AS_PUBLISHED) !== 0,
    identifier: readSubscriptionIdentifier(reader),
  }
}

export function writeMemberStates(writer: ByteWriter, states: readonly MemberStanding[]): void {
  writer.varint(states.length)
  for (const { clientId, standing } of states) {
    writer.text(clientId)
    writeStanding(writer, standing)
  }
}

export function readMemberStates(reader: ByteReader): MemberStanding[] {
  const states: MemberStanding[] = []
  for (let left = readCount(reader, STATE_BYTES_MIN); left > 0; left--)
    states.push({ clientId: readClientId(reader), standing: readStanding(reader) })
  return states
}

function writeStanding(writer: ByteWriter, standing: Standing): void {
  writer.u8(STANDINGS.indexOf(standing))
}

function readStanding(reader: ByteReader): Standing {
  return STANDINGS[readBelow(reader, STANDINGS.length, 'how a member stands')]!
}
