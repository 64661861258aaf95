import { expect, test } from 'vitest'
import { ManualTimers } from '#shared/base/timers.ts'
import { SharedAnswers, TooManyCalls } from './shared-answers.ts'

const LIMITS = { keepMs: () => 100, keptMax: 3, pendingMax: 2 }

/** Calls that a test answers by hand. */
function heldCalls(): { call: () => Promise<string>; readonly count: number; answer(text: string): void; fail(error: Error): void } {
  const pending: PromiseWithResolvers<string>[] = []
  return {
    call: () => {
      pending.push(Promise.withResolvers())
      return pending.at(-1)!.promise
    },
    get count() {
      return pending.length
    },
    answer: text => pending.at(-1)!.resolve(text),
    fail: error => pending.at(-1)!.reject(error),
  }
}

test('who asks while a call is under way shares it; then its answer is kept for a while', async () => {
  const timers = new ManualTimers()
  const answers = new SharedAnswers<string>({ ...LIMITS, timers })
  const calls = heldCalls()
  const both = Promise.all([answers.get('a', calls.call), answers.get('a', calls.call)])
  calls.answer('first')
  expect(await both).toEqual(['first', 'first'])
  timers.advance(99)
  expect(await answers.get('a', calls.call)).toBe('first')
  timers.advance(1)
  const later = answers.get('a', calls.call)
  calls.answer('second')
  expect(await later).toBe('second')
  expect(calls.count).toBe(2)
})

test('a failure reaches all who share the call and is not kept', async () => {
  const answers = new SharedAnswers<string>({ ...LIMITS, timers: new ManualTimers() })
  const calls = heldCalls()
  const both = Promise.allSettled([answers.get('a', calls.call), answers.get('a', calls.call)])
  calls.fail(new Error('away'))
  expect((await both).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  const again = answers.get('a', calls.call)
  calls.answer('there')
  expect(await again).toBe('there')
})

test('an answer that is good for no time is for those alone who wait for it', async () => {
  const answers = new SharedAnswers<string>({ ...LIMITS, keepMs: () => -1, timers: new ManualTimers() })
  let count = 0
  const call = (): Promise<string> => Promise.resolve(String(++count))
  expect([await answers.get('a', call), await answers.get('a', call)]).toEqual(['1', '2'])
})

test('calls under way have a limit, and so have answers that are kept: the oldest goes', async () => {
  const answers = new SharedAnswers<string>({ ...LIMITS, timers: new ManualTimers() })
  const calls = heldCalls()
  const held = [answers.get('x', calls.call)]
  calls.answer('x')
  await held[0]
  void answers.get('y', calls.call)
  void answers.get('z', calls.call)
  await expect(answers.get('w', calls.call)).rejects.toBeInstanceOf(TooManyCalls)
  expect(await answers.get('x', calls.call), 'what is kept needs no call').toBe('x')

  const few = new SharedAnswers<string>({ ...LIMITS, timers: new ManualTimers() })
  const asked: string[] = []
  const call = (key: string) => (): Promise<string> => {
    asked.push(key)
    return Promise.resolve(key)
  }
  for (const key of ['a', 'b', 'c', 'd', 'b', 'c', 'd', 'a']) await few.get(key, call(key))
  expect(asked).toEqual(['a', 'b', 'c', 'd', 'a'])
})
