import { expect, test } from 'vitest'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { Chain } from './chain.ts'
import type { RedisCommand } from './connection.ts'
import { LINK_FIELD, LOG_START, parseLogId } from './keys.ts'
import { ShardLog } from './shard-log.ts'

interface StoredEntry {
  readonly position: number
  readonly link: number | null
  readonly number: number
}

/** A stream as Redis keeps it, for one epoch: takes an id above the last one, unless it refuses for a reason of its own. */
class FakeStream {
  readonly entries: StoredEntry[] = []
  last = 0

  take(command: RedisCommand): boolean {
    const { position } = parseLogId(String(command[2]))
    if (position <= this.last) return false
    this.last = position
    const link = command[3] === LINK_FIELD ? Number(command[4]) : null
    this.entries.push({ position, link, number: Number(String(command.at(-1))) })
    return true
  }

  /** Numbers of the entries that count for who begins behind `covered`. */
  read(covered: number): number[] {
    const chain = new Chain(covered === 0 ? LOG_START : { epoch: 1, position: covered })
    if (covered === 0) chain.admits({ epoch: 1, position: 0 }, null)
    return this.entries
      .filter(({ position }) => position > covered)
      .filter(({ position, link }) => chain.admits({ epoch: 1, position }, link))
      .map(({ number }) => number)
  }
}

/** Replays absolute entries: entry n sets one of five keys to n. */
function replay(numbers: readonly number[], state = new Map<number, number>()): Map<number, number> {
  for (const number of numbers) state.set(number % 5, number)
  return state
}

const upTo = (number: number): number[] => Array.from({ length: number }, (_, index) => index + 1)

/** One owner against a server that refuses, and a network that loses answers, at random. */
function run(seed: number): void {
  const random = new SeededRandom(seed)
  const stream = new FakeStream()
  const log = new ShardLog(0, 'log')
  log.begin(1)
  let made = 0
  let stored = 0
  /** The valid snapshot, and the one under way: the position covered, and the state of the owner when it began. */
  let snapshot = { covered: 0, state: new Map<number, number>() }
  let state: Map<number, number> | null = null
  for (let step = 0; step < 200; step++) {
    for (let more = random.int(0, 3); more > 0; more--) {
      const number = ++made
      log.add([Buffer.from(String(number))], { missing: 0, resolve: () => (stored = number), reject: () => {} })
    }
    if (state === null && random.chance(0.1)) {
      log.beginSnapshot()
      state = replay(upTo(made))
    }
    const commands = log.takeUnsent()
    const reached = log.sentPosition
    const isBroken = random.chance(0.2)
    let isRefused = false
    for (const command of commands) {
      if (random.chance(0.15) || !stream.take(command)) isRefused = true
    }
    if (isRefused || isBroken) log.loseContact()
    else if (commands.length > 0) log.onStored(reached)
    if (log.phase === 'synchronising') {
      log.onSynchronised(
        stream.last,
        stream.entries.map(({ position }) => position).filter(position => position > log.stored),
      )
    }
    if (state !== null && log.stored >= log.covered && random.chance(0.5)) {
      snapshot = { covered: log.covered, state }
      state = null
    }
    // Whoever takes over at this moment finds the state after some entry that is not before the last one answered.
    const found = replay(stream.read(0))
    const newest = Math.max(0, ...found.values())
    expect(newest).toBeGreaterThanOrEqual(stored)
    expect(found).toEqual(replay(upTo(newest)))
    const fromSnapshot = replay(stream.read(snapshot.covered), new Map(snapshot.state))
    const newestThere = Math.max(0, ...fromSnapshot.values())
    expect(newestThere).toBeGreaterThanOrEqual(stored)
    expect(fromSnapshot).toEqual(replay(upTo(newestThere)))
  }
}

test('whatever is refused or lost on the way, the log holds a beginning of what was committed, with all that was answered', () => {
  for (let seed = 1; seed <= 100; seed++) run(seed)
})

test('pending entries end when the shard is lost, and belong to nobody when it is claimed again', () => {
  const log = new ShardLog(0, 'log')
  log.begin(1)
  let ended = 0
  for (let count = 0; count < 3; count++) log.add([Buffer.from('a')], { missing: 0, resolve: () => ended++, reject: () => {} })
  log.end('fenced')
  expect([ended, log.pending, log.takeUnsent().length]).toEqual([3, 0, 0])
  log.begin(4)
  log.add([Buffer.from('b')], { missing: 0, resolve: () => ended++, reject: () => {} })
  expect(log.takeUnsent().map(command => command[2])).toEqual(['4-1'])
})
