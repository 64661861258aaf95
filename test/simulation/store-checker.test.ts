import { describe, expect, test } from 'vitest'
import type { Action, Result } from '../linearizability/history.ts'
import type { Happening, HistoryEvent, StoreAction } from './history.ts'
import { checkStore } from './store-checker.ts'

/** Keys are as the clients of a simulation have them: `k1` is the lock. */
const KEY = 'k0'

/** A history written by hand, a millisecond for each event. */
class Story {
  readonly events: HistoryEvent[] = []
  #requests = 0

  add(...happenings: readonly Happening[]): this {
    for (const happening of happenings) this.events.push({ ...happening, ms: this.events.length })
    return this
  }

  connect(client: string): this {
    return this.add({ is: 'connect', client, isClean: false, isPersistent: true, to: 'f1' }, { is: 'connack', client, isPresent: true })
  }

  close(client: string): this {
    return this.add({ is: 'closed', client, how: 'cut', reason: 0 })
  }

  ask(client: string, action: StoreAction, key = KEY): string {
    const request = `${client}:s${++this.#requests}`
    this.add({ is: 'storeAsked', client, request, key, action })
    return request
  }

  answer(request: string, result: Result): this {
    return this.add({ is: 'storeAnswered', client: request.split(':')[0]!, request, result })
  }

  done(client: string, action: StoreAction, version: number | null = null, key = KEY): this {
    return this.answer(this.ask(client, action, key), { is: 'done', version: version === null ? null : versionOf(version) })
  }

  told(client: string, version: number, value: string | null, key = KEY): this {
    return this.add({ is: 'notified', client, key, version: versionOf(version), value })
  }

  takeover(): this {
    return this.add({ is: 'owned', process: 'b2-1', shard: 1, epoch: 2 })
  }

  get rules(): readonly string[] {
    return checkStore(this.events).map(({ rule }) => rule)
  }
}

function versionOf(number: number): string {
  return `${number}:0:StateStore`
}

function set(value: string): Action {
  return { is: 'set', value, condition: null, pxMs: null, token: null }
}

const WATCH = { is: 'watch' } as const
const UNWATCH = { is: 'unwatch' } as const
const DEL: Action = { is: 'del', token: null }

/** `a` writes, `b` watches. */
function watched(): Story {
  return new Story().connect('a').connect('b').done('b', WATCH)
}

describe('what is as it should be', () => {
  test('a change is told once, and nothing is told of what was done before or after it was watched', () => {
    const story = new Story().connect('a').connect('b').done('a', set('v0'), 1).done('b', WATCH)
    story.done('a', set('v1'), 2).told('b', 2, 'v1').done('a', DEL, 2).told('b', 3, null)
    expect(story.done('b', UNWATCH).done('a', set('v2'), 4).rules).toEqual([])
  })

  test('a request without answer may have been done or not', () => {
    const story = watched()
    story.ask('a', set('v1'))
    expect(story.rules).toEqual([])
    expect(story.told('b', 2, 'v1').rules).toEqual([])
  })

  test('who has lost its connection is owed nothing, and what was on its way may come to the next one', () => {
    const story = watched().close('b').done('a', set('v1'), 2).connect('b').told('b', 2, 'v1').done('a', set('v2'), 3)
    expect(story.rules).toEqual([])
  })

  test('another owner of a shard may tell again what was told, from there on', () => {
    const story = watched().done('a', set('v1'), 2).done('a', set('v2'), 3).told('b', 2, 'v1').told('b', 3, 'v2')
    expect(story.takeover().told('b', 2, 'v1').told('b', 3, 'v2').rules).toEqual([])
  })

  test('what a failover of Redis may have lost is not asked for', () => {
    const story = watched().done('a', set('v1'), 2)
    const sinceMs = story.events.length - 1.5
    story.add({ is: 'mayForget', sinceMs, what: 'a write' })
    story.answer(story.ask('a', { is: 'get' }), { is: 'missing' })
    expect(story.rules).toEqual([])
  })
})

describe('what is wrong', () => {
  test('an answer that no order of the operations explains', () => {
    const story = new Story().connect('a').done('a', set('v1'), 1)
    story.answer(story.ask('a', { is: 'get' }), { is: 'missing' })
    expect(story.rules).toEqual(['store'])
  })

  test('a change that is not told', () => {
    expect(watched().done('a', set('v1'), 2).rules).toEqual(['store-missed'])
    expect(watched().done('a', set('v1'), 2).told('b', 2, 'v1').done('a', DEL, 2).rules).toEqual(['store-missed'])
  })

  test('one that is told twice, or late', () => {
    const story = watched().done('a', set('v1'), 2).done('a', set('v2'), 3)
    story.told('b', 2, 'v1').told('b', 3, 'v2')
    expect(story.told('b', 3, 'v2').rules).toEqual(['store-order'])
    expect(story.told('b', 2, 'v1').rules).toEqual(['store-order', 'store-order'])
  })

  test('an entry that is gone twice', () => {
    const story = watched().done('a', set('v1'), 2).told('b', 2, 'v1').done('a', DEL, 2).told('b', 3, null)
    expect(story.told('b', 4, null).rules).toEqual(['store-order'])
  })

  test('a request that was done twice', () => {
    const story = watched()
    story.ask('a', set('v1'))
    expect(story.told('b', 2, 'v1').told('b', 3, 'v1').rules).toEqual(['store-order'])
  })

  test('a change that nobody made, or that was refused', () => {
    expect(watched().told('b', 2, 'v1').rules).toEqual(['store-unknown', 'store-unasked'])
    const story = watched().done('a', set('v0'), 2).told('b', 2, 'v0')
    story.answer(story.ask('a', { ...set('v1'), condition: 'NX' } as Action), { is: 'differs', version: versionOf(2) })
    expect(story.told('b', 3, 'v1').rules).toEqual(['store-unknown'])
  })

  test('who does not watch is told', () => {
    const never = new Story().connect('a').connect('b').done('a', set('v1'), 2).told('b', 2, 'v1')
    expect(never.rules).toEqual(['store-unasked'])
    expect(watched().close('b').connect('b').done('a', set('v1'), 2).told('b', 2, 'v1').rules).toEqual(['store-unasked'])
    expect(watched().done('b', UNWATCH).done('a', set('v1'), 2).told('b', 2, 'v1').rules).toEqual(['store-unasked'])
  })

  test('two entries with the same version', () => {
    expect(new Story().connect('a').done('a', set('v1'), 1).done('a', set('v2'), 1).rules).toEqual(['store', 'store'])
  })
})
