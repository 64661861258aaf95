import { expect, test } from 'vitest'
import { until } from '#shared/testing/redis-server.ts'
import { BREAKING_THREADS, EATS_MEMORY, ENDS_THREAD, HANGS } from './breaking-threads.ts'
import { ACCEPTED, NOT_AUTHORIZED, UNAVAILABLE } from './codes.ts'
import { PATIENCE_MS, SLOW_USERS } from './fault-cluster.ts'
import { useFaultCluster } from './stage.ts'

// Each case starts both services with flags of its own.
const stage = useFaultCluster()

/** All slow users at once: what becomes of each, some being let in and some told to come back. */
async function rush(): Promise<void> {
  const codes = await Promise.all(stage.cluster.slowCodes(0, SLOW_USERS))
  expect(codes).toHaveLength(SLOW_USERS)
  expect(new Set(codes)).toEqual(new Set([ACCEPTED, UNAVAILABLE]))
  await stage.cluster.calls('open', count => count === 0)
}

test('15: more requests than may run and wait: some are told to come back, none hangs; later all come in', async () => {
  const { cluster } = stage
  await cluster.relaunch({ flags: ['--auth-requests-max', '1'] })
  await rush()
  await cluster.serviceCounts('millrace_authentication_undecided_total')
  expect(await cluster.passwordCode()).toBe(ACCEPTED)
  expect(await cluster.passwordCode('alice', 5, 'wrong')).toBe(NOT_AUTHORIZED)
})

test('16: the queue of the worker threads is full: the same; who needs none of them comes in meanwhile', async () => {
  const { cluster } = stage
  await cluster.relaunch({ flags: ['--auth-worker-threads', '1', '--auth-worker-queue-max', '1'] })
  const rushed = rush()
  expect(await cluster.scramCode()).toBe(ACCEPTED)
  await rushed
  expect(await cluster.passwordCode()).toBe(ACCEPTED)
})

test('17: a worker thread that runs out of memory, ends or hangs takes its own client with it and nobody else', async () => {
  const { cluster } = stage
  await cluster.relaunch({ nodeFlags: ['--import', BREAKING_THREADS] })
  const broken = [EATS_MEMORY, ENDS_THREAD].map(password => cluster.passwordCode('slow-0', 5, password))
  expect(await Promise.all(broken)).toEqual([UNAVAILABLE, UNAVAILABLE])
  expect(await cluster.passwordCode()).toBe(ACCEPTED)
  const hung = cluster.passwordCode('slow-0', 5, HANGS)
  await cluster.serviceCounts('millrace_authentication_tasks')
  expect(await cluster.scramCode()).toBe(ACCEPTED)
  expect(await hung).toBe(UNAVAILABLE)
  // The thread is ended some time after its client has been told; then others are served by a new one.
  await until(async () => (await cluster.passwordCode('bob')) === ACCEPTED, 'passwords are checked again', PATIENCE_MS)
})
