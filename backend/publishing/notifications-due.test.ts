import { beforeEach, describe, expect, test } from 'vitest'
import { storeClock } from '#shared/state-store/hybrid-clock.ts'
import type { StoreNotification, WatcherId } from '../statestore/store-request.ts'
import { NotificationsDue } from './notifications-due.ts'

const PER_TURN = 500
const MIB = 1024 * 1024

/** `CLIENT CHANGE` of each notification, and the changes that all were told of. */
let told: string[]
let due: NotificationsDue
beforeEach(() => {
  told = []
  due = new NotificationsDue((notification, { clientId }) => told.push(`${clientId} ${notification.key}`))
})

const connections = new Map<string, number>()

function connectionOf(clientId: string): number {
  const connection = connections.get(clientId) ?? connections.size
  connections.set(clientId, connection)
  return connection
}

function watchers(count: number, prefix = 'w'): readonly WatcherId[] {
  return Array.from({ length: count }, (_, number) => ({
    clientId: `${prefix}${number}`,
    frontend: 'f',
    connection: connectionOf(`${prefix}${number}`),
  }))
}

function change(name: string, to: readonly WatcherId[], whenTold: () => void = () => told.push(`all ${name}`), bytes = 1): void {
  const notification: StoreNotification = { key: name, payload: Buffer.alloc(bytes), clock: storeClock(1, 0), previous: null, watchers: to }
  due.add(notification, whenTold)
}

describe('few', () => {
  test('are told at once', () => {
    change('a', watchers(2))
    expect([told, due.isBehind]).toEqual([['w0 a', 'w1 a', 'all a'], false])
  })

  test('of other connections are told while many wait, those that wait themselves are not', () => {
    const many = watchers(PER_TURN + 2)
    change('a', many)
    told.length = 0
    change('b', watchers(1, 'other'))
    change('c', [many.at(-1)!])
    expect(told).toEqual(['other0 b', 'all b'])
    due.renew()
    expect(told.slice(2)).toEqual([`w${PER_TURN} a`, `w${PER_TURN + 1} a`, 'all a', `w${PER_TURN + 1} c`, 'all c'])
  })
})

describe('many', () => {
  test('are told within several turns, and whoever made the change hears of it then', () => {
    change('a', watchers(2 * PER_TURN + 1))
    const counts = [told.length]
    for (let turn = 0; turn < 3; turn++) {
      due.renew()
      counts.push(told.length)
    }
    expect([counts, told.at(-1), due.isBehind]).toEqual([[PER_TURN, 2 * PER_TURN, 2 * PER_TURN + 2, 2 * PER_TURN + 2], 'all a', false])
  })

  test('changes of one turn have its number together', () => {
    for (let made = 0; made < 10; made++) change(`a${made}`, watchers(100, `w${made}-`))
    expect(told.filter(text => !text.startsWith('all'))).toHaveLength(PER_TURN)
  })

  test('a connection has what waits for it together, in the order of the changes', () => {
    const all = watchers(PER_TURN + 1)
    for (const name of ['a', 'b', 'c']) change(name, all)
    expect(told).toHaveLength(PER_TURN)
    told.length = 0
    due.renew()
    // That of which `a` was not told is the first to go on.
    expect(told.slice(0, 6)).toEqual([`w${PER_TURN} a`, 'all a', `w${PER_TURN} b`, `w${PER_TURN} c`, 'w0 b', 'w0 c'])
    while (due.isBehind) due.renew()
    for (const { clientId } of all) {
      const own = told.filter(text => text.startsWith(`${clientId} `) && !text.endsWith('a'))
      expect(own).toEqual([`${clientId} b`, `${clientId} c`])
    }
    expect(told.filter(text => text.startsWith('all'))).toEqual(['all a', 'all b', 'all c'])
  })

  test('what is changed when all were told waits behind what is under way', () => {
    const all = watchers(PER_TURN + 1)
    change('a', all, () => change('c', [all.at(-1)!]))
    change('b', all)
    while (due.isBehind) due.renew()
    const last = told.filter(text => text.startsWith(`w${PER_TURN} `))
    expect(last).toEqual(['a', 'b', 'c'].map(name => `w${PER_TURN} ${name}`))
  })

  test('go on though somebody who was told that all were told has failed', () => {
    const fails = (): void => {
      throw new Error('fails')
    }
    change('a', watchers(PER_TURN + 1), fails)
    expect(() => due.renew()).toThrow('fails')
    change('b', watchers(2))
    due.renew()
    expect(told.slice(-3)).toEqual(['w0 b', 'w1 b', 'all b'])
  })

  test('what would hold too much memory is told at once', () => {
    const all = watchers(PER_TURN + 1)
    change('a', all, undefined, 65 * MIB)
    expect([told.at(-1), told.length, due.isBehind]).toEqual(['all a', PER_TURN + 2, false])
  })
})
