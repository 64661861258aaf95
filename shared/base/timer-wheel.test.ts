import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type TimerHandle, TimerWheel } from './timer-wheel.ts'

const YEAR_MS = 365.25 * 86_400_000

describe('TimerWheel', () => {
  test('fires never early and at the first advance at or after the next tick, whatever the distance', () => {
    const step = fc.oneof(
      fc.record({
        is: fc.constant('schedule' as const),
        ms: fc.oneof(fc.integer({ min: -500, max: 5_000 }), fc.integer({ max: 136 * YEAR_MS, min: 0 })),
      }),
      fc.record({ is: fc.constant('cancel' as const), ms: fc.nat() }),
      fc.record({
        is: fc.constant('advance' as const),
        ms: fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 60 * YEAR_MS })),
      }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), fc.constantFrom(1, 7, 100), (steps, tickMs) => {
        let nowMs = 1_700_000_000_123
        const startMs = nowMs
        const wheel = new TimerWheel<number>(tickMs, startMs)
        const model = new Map<number, { dueTick: number; handle: TimerHandle }>()
        const tick = (): number => Math.floor((nowMs - startMs) / tickMs)
        steps.forEach(({ is, ms }, item) => {
          if (is === 'schedule') {
            const dueTick = Math.max(Math.ceil((nowMs + ms - startMs) / tickMs), tick() + 1)
            model.set(item, { dueTick, handle: wheel.schedule(item, nowMs + ms) })
          } else if (is === 'cancel') {
            const [item, timer] = [...model][ms % (model.size || 1)] ?? [-1, null]
            if (timer === null) return
            wheel.cancel(timer.handle)
            wheel.cancel(timer.handle)
            expect(timer.handle.isScheduled).toBe(false)
            model.delete(item)
          } else {
            nowMs += ms
            const fired: number[] = []
            wheel.advance(nowMs, item => fired.push(item))
            const due = [...model].filter(([, { dueTick }]) => dueTick <= tick())
            expect(fired.toSorted((a, b) => a - b)).toEqual(due.map(([item]) => item))
            const ticks = fired.map(item => model.get(item)!.dueTick)
            expect(ticks).toEqual(ticks.toSorted((a, b) => a - b))
            for (const item of fired) model.delete(item)
          }
          expect(wheel.size).toBe(model.size)
        })
      }),
    )
  })

  test('a due time between two ticks waits for the later one', () => {
    const wheel = new TimerWheel<number>(10, 1_000)
    wheel.schedule(1, 1_015)
    wheel.advance(1_019, () => expect.unreachable())
    const fired: number[] = []
    wheel.advance(1_020, item => fired.push(item))
    expect(fired).toEqual([1])
  })

  test('an item due in 136 years fires after a jump, and not before', () => {
    const wheel = new TimerWheel<string>(1, 0)
    const dueMs = 0xffff_fffe * 1_000
    wheel.schedule('session', dueMs)
    const fired: string[] = []
    wheel.advance(dueMs - 1, item => fired.push(item))
    expect(fired).toEqual([])
    wheel.advance(dueMs, item => fired.push(item))
    expect(fired).toEqual(['session'])
    expect(wheel.size).toBe(0)
  })

  test('what never falls due is held without harm', () => {
    const wheel = new TimerWheel<string>(100, 0)
    const handle = wheel.schedule('never', Number.POSITIVE_INFINITY)
    wheel.advance(1_000 * YEAR_MS, () => expect.unreachable())
    expect(wheel.size).toBe(1)
    wheel.cancel(handle)
    expect(wheel.size).toBe(0)
    expect(() => wheel.schedule('when?', Number.NaN)).toThrow()
  })

  test('onDue may cancel what is due at the same tick', () => {
    const wheel = new TimerWheel<number>(10, 0)
    const handles = [0, 1, 2, 3].map(item => wheel.schedule(item, 50))
    const fired: number[] = []
    wheel.advance(50, item => {
      fired.push(item)
      for (const handle of handles) wheel.cancel(handle)
    })
    expect(fired).toHaveLength(1)
    expect(wheel.size).toBe(0)
  })

  test('onDue may schedule: an item that is already due fires in the next advance, not in this one', () => {
    const wheel = new TimerWheel<number>(10, 0)
    wheel.schedule(0, 10)
    const fired: number[] = []
    const onDue = (item: number): void => {
      fired.push(item)
      wheel.schedule(item + 1, 0)
    }
    wheel.advance(1_000_000, onDue)
    expect(fired).toEqual([0])
    wheel.advance(1_000_010, onDue)
    expect(fired).toEqual([0, 1])
  })

  test('when onDue throws, the others fire at the next advance', () => {
    const wheel = new TimerWheel<number>(10, 0)
    for (let item = 0; item < 3; item++) wheel.schedule(item, 20)
    const fired: number[] = []
    expect(() =>
      wheel.advance(20, item => {
        fired.push(item)
        throw new Error('of the owner')
      }),
    ).toThrow('of the owner')
    wheel.advance(20, item => fired.push(item))
    expect(fired.toSorted()).toEqual([0, 1, 2])
  })

  test('at most `max` in one advance; the others in the next ones, in order of their ticks, and before what was scheduled meanwhile', () => {
    const item = fc.record({ dueMs: fc.integer({ min: 0, max: 50_000 }), step: fc.integer({ min: 0, max: 2_000 }) })
    fc.assert(
      fc.property(fc.array(item, { minLength: 1, maxLength: 60 }), fc.integer({ min: 1, max: 5 }), (items, max) => {
        const wheel = new TimerWheel<number>(10, 0)
        const ticks: number[] = []
        for (const { dueMs } of items) wheel.schedule(Math.max(1, Math.ceil(dueMs / 10)), dueMs)
        let nowMs = 0
        const late: number[] = []
        for (const { step } of items) {
          nowMs += step
          const before = wheel.size
          const isDone = wheel.advance(nowMs, tick => (tick === 0 ? late : ticks).push(tick), max)
          expect(before - wheel.size).toBeLessThanOrEqual(max)
          if (isDone) expect(wheel.advance(nowMs, () => expect.unreachable(), max)).toBe(true)
          wheel.schedule(0, nowMs)
        }
        while (!wheel.advance(nowMs + 100_000, tick => (tick === 0 ? late : ticks).push(tick), max));
        expect(ticks).toEqual(items.map(({ dueMs }) => Math.max(1, Math.ceil(dueMs / 10))).toSorted((a, b) => a - b))
        expect(late).toHaveLength(items.length)
        expect(wheel.size).toBe(0)
      }),
    )
  })

  test('time that goes back fires nothing', () => {
    const wheel = new TimerWheel<number>(10, 1_000)
    wheel.advance(2_000, () => {})
    wheel.schedule(1, 2_005)
    wheel.advance(500, () => expect.unreachable())
    const fired: number[] = []
    wheel.advance(2_010, item => fired.push(item))
    expect(fired).toEqual([1])
  })

  test('an advance inside onDue is our mistake', () => {
    const wheel = new TimerWheel<number>(10, 0)
    wheel.schedule(1, 10)
    expect(() => wheel.advance(10, () => wheel.advance(20, () => {}))).toThrow('advance')
  })

  test('200,000 items over a day all fire, in order of their ticks, after a suspend of a year', () => {
    const wheel = new TimerWheel<number>(100, 0)
    const dueMs = (item: number): number => (item * 2_654_435_761) % 86_400_000
    for (let item = 0; item < 200_000; item++) wheel.schedule(item, dueMs(item))
    let last = 0
    let fired = 0
    wheel.advance(YEAR_MS, item => {
      const tick = Math.max(1, Math.ceil(dueMs(item) / 100))
      if (tick < last) expect.fail('out of order')
      last = tick
      fired++
    })
    expect(fired).toBe(200_000)
    expect(wheel.size).toBe(0)
  })
})
