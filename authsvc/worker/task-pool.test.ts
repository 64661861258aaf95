import { afterEach, expect, test } from 'vitest'
import { ManualTimers, systemTimers } from '#shared/base/timers.ts'
import { openWorkers } from './piscina-workers.ts'
import { TaskPool } from './task-pool.ts'
import type { TaskPoolSettings } from './task-pool.ts'
import { WorkersBusy } from './workers.ts'

const open: { close(): Promise<void> }[] = []

afterEach(async () => {
  await Promise.all(open.splice(0).map(each => each.close()))
})

function poolWith(settings: Partial<TaskPoolSettings> = {}): TaskPool {
  const entry = new URL('./failing-tasks.contract.ts', import.meta.url)
  const pool = new TaskPool({ threads: 1, queueMax: 100, taskTimeoutMs: 20_000, timers: systemTimers, entry, ...settings })
  open.push(pool)
  return pool
}

test('tasks beyond the limit of the queue are refused at once, the others answered', async () => {
  const pool = poolWith({ threads: 2, queueMax: 3 })
  expect(pool.figures()).toEqual({ waiting: 0, running: 0, completed: 0 })
  const accepted = ['a', 'b', 'c', 'd', 'e'].map(text => pool.run(text))
  expect(pool.figures()).toEqual({ waiting: 3, running: 2, completed: 0 })
  await expect(pool.run('f')).rejects.toThrow(WorkersBusy)
  expect(await Promise.all(accepted)).toEqual(['a in a thread', 'b in a thread', 'c in a thread', 'd in a thread', 'e in a thread'])
  await expect.poll(() => pool.figures()).toEqual({ waiting: 0, running: 0, completed: 5 })
})

test('tasks begin in the order in which they came', async () => {
  const pool = poolWith()
  const order: number[] = []
  await Promise.all(Array.from({ length: 50 }, (_, index) => pool.run(String(index)).then(() => order.push(index))))
  expect(order).toEqual(Array.from({ length: 50 }, (_, index) => index))
})

test('whoever comes from elsewhere waits for one task of a flood, and loses no place to it', async () => {
  const pool = poolWith({ queueMax: 20 })
  const order: string[] = []
  const run = (text: string, source: string): Promise<unknown> => pool.run(text, source).then(() => order.push(text))
  const flood = Promise.allSettled(Array.from({ length: 21 }, (_, index) => run(`flood ${index}`, 'one place')))
  await expect(run('flood', 'one place')).rejects.toThrow(WorkersBusy)
  const legitimate = run('legitimate', 'elsewhere')
  await legitimate
  expect(order).toEqual(['flood 0', 'flood 1', 'legitimate'])
  expect((await flood).filter(({ status }) => status === 'rejected')).toHaveLength(1)
})

test.each([
  ['throw', 'thrown in the task'],
  ['exit', 'exit'],
  ['memory', 'memory limit'],
])('a task that ends in %s takes no other with it, and the next ones find a thread', async (task, message) => {
  const pool = poolWith()
  const before = pool.run('before')
  const failing = pool.run(task)
  const after = pool.run('after')
  await expect(failing).rejects.toThrow(message)
  expect(await before).toBe('before in a thread')
  expect(await after).toBe('after in a thread')
  expect(await pool.run('later')).toBe('later in a thread')
})

test('a task that does not end loses its thread', async () => {
  const timers = new ManualTimers()
  const pool = poolWith({ timers, taskTimeoutMs: 1_000 })
  await pool.run('before')
  const hanging = pool.run('hang')
  const after = pool.run('after')
  await expect.poll(() => timers.pendingCount).toBe(1)
  timers.advance(1_000)
  await expect(hanging).rejects.toThrow('aborted')
  expect(await after).toBe('after in a thread')
})

test('where no thread can start, each task is rejected, and none waits for ever', async () => {
  const pool = poolWith({ threads: 2, entry: new URL('./nowhere.ts', import.meta.url) })
  const outcomes = await Promise.allSettled([pool.run('a'), pool.run('b'), pool.run('c')])
  expect(outcomes.map(outcome => outcome.status)).toEqual(['rejected', 'rejected', 'rejected'])
  await expect(pool.run('d')).rejects.toThrow()
})

test('closing rejects what runs and waits, and what comes later', async () => {
  const pool = poolWith()
  await pool.run('before')
  const outcomes = Promise.allSettled([pool.run('hang'), pool.run('waits')])
  await pool.close()
  expect((await outcomes).map(outcome => outcome.status)).toEqual(['rejected', 'rejected'])
  await expect(pool.run('late')).rejects.toThrow('closed')
})

test('threads run the tasks of the registry', async () => {
  const workers = openWorkers({ threads: 1, queueMax: 10, timers: systemTimers })
  open.push(workers)
  const trust = { version: 'none', anchors: new Uint8Array(), lists: new Uint8Array() }
  expect(await workers.run('x509', { certificates: [], trust, nowMs: 0 })).toEqual({ is: 'refused', cause: 'no certificate' })
  await expect.poll(() => workers.figures().completed).toBe(1)
})
