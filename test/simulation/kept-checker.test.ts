import { describe, expect, test } from 'vitest'
import type { Happening, HistoryEvent } from './history.ts'
import { checkKept } from './kept-checker.ts'

const [CLIENT, OTHER, KEY] = ['c1', 'c2', 'k0']

/** A history written by hand, a millisecond for each event: who keeps a watch, and others that write. Versions are numbers. */
class Story {
  readonly events: HistoryEvent[] = []
  #requests = 0

  add(...happenings: readonly Happening[]): this {
    for (const happening of happenings) this.events.push({ ...happening, ms: this.events.length })
    return this
  }

  from(version: number): this {
    return this.add({ is: 'keptFrom', client: CLIENT, key: KEY, version: versionOf(version) })
  }

  on(missed: number): this {
    return this.add({ is: 'keptOn', client: CLIENT, key: KEY, missed })
  }

  told(...versions: readonly number[]): this {
    return this.add(
      ...versions.map(version => ({ is: 'keptTold', client: CLIENT, key: KEY, version: versionOf(version), value: 'v' }) as const),
    )
  }

  set(version: number, key = KEY): this {
    const request = `${OTHER}:s${++this.#requests}`
    const action = { is: 'set', value: 'v', condition: null, pxMs: null, token: null } as const
    return this.add(
      { is: 'storeAsked', client: OTHER, request, key, action },
      { is: 'storeAnswered', client: OTHER, request, result: { is: 'done', version: versionOf(version) } },
    )
  }

  close(): this {
    return this.add({ is: 'closed', client: CLIENT, how: 'cut', reason: 0 })
  }

  get missed(): readonly string[] {
    return checkKept(this.events).map(({ words }) => words[1]!)
  }
}

function versionOf(number: number): string {
  return `${number}:0:StateStore`
}

const lost: Happening = { is: 'mayForget', sinceMs: 0, what: 'all' }

describe('a watch that is kept', () => {
  test.each<[name: string, story: Story]>([
    ['knows of all, also of what it missed', new Story().from(1).set(2).told(2).close().set(3).set(4).on(2).told(3, 4)],
    ['is not owed what was before it began, nor what is of another key', new Story().set(1).from(2).set(3, 'k1').on(0)],
    ['that began anew is not owed what was between', new Story().from(1).close().set(2).from(3).set(4).told(4)],
    ['is owed nothing while its client is away', new Story().from(1).close().set(2)],
    [
      'nor when it has ended',
      new Story()
        .from(1)
        .add({ is: 'storeAsked', client: CLIENT, request: 'x', key: KEY, action: { is: 'unwatch' } })
        .set(2),
    ],
    ['nor what a failover of Redis may lose', new Story().add(lost).from(1).set(2)],
  ])('%s', (_, story) => {
    expect(story.missed).toEqual([])
  })

  test.each<[name: string, story: Story]>([
    ['that it goes on, and something between is missing', new Story().from(1).close().set(2).set(3).on(1).told(3)],
    ['nothing more, although it is connected', new Story().from(1).set(2)],
    ['something later first', new Story().from(1).set(2).set(3).told(3)],
    [
      'less than another client',
      new Story()
        .from(1)
        .add({ is: 'notified', client: OTHER, key: KEY, version: versionOf(2), value: null })
        .told(3),
    ],
  ])('is told %s', (_, story) => {
    expect(story.missed).toEqual([versionOf(2)])
  })
})
