import { describe, expect, test } from 'vitest'
import { FakeStore, textOf } from '../../client/fake-store.contract.ts'
import { compareHybridTimes, formatHybridTime, type HybridTime, parseHybridTime } from '../../client/hybrid-clock.ts'
import { hexOf, notificationPrefixOf } from '../../client/topics.ts'
import { scenarios, type Step, USUAL_CLIENT } from '../state-store/vectors.contract.ts'

// What the tests of the client run against by default must itself be what the specification says.
describe('the fake store answers as the vectors say', () => {
  test.each(scenarios)('$name', ({ steps }) => {
    let now = 0
    const told: unknown[] = []
    const store = new FakeStore(
      () => now,
      (to, key, payload) => told.push({ to, topic: notificationPrefixOf(to) + hexOf(key), payload: payload.toString('latin1') }),
    )
    const versions = new Map<string, HybridTime>()
    for (const { id, client = USUAL_CLIENT, clockMs, props = {}, request, response, ts, notify = [] } of steps) {
      now = clockMs
      told.length = 0
      store.expire()
      if (request !== undefined) {
        const property = (name: string): string | undefined => {
          const given = props[name]
          return given === undefined || typeof given === 'string' ? given : formatHybridTime(versions.get(given.tsOf)!)
        }
        const answer = store.execute({
          clientId: client,
          payload: Buffer.from(request, 'latin1'),
          ts: property('__ts'),
          ft: property('__ft'),
        })
        expect([id, answer.payload.toString('latin1')]).toEqual([id, response])
        if (answer.version !== null) versions.set(id, answer.version)
        checkVersion(id, answer.version, ts, versions)
      }
      expect([id, ...told]).toEqual([id, ...notify.map(({ to, topic, payload }) => ({ to, topic, payload }))])
    }
  })
})

function checkVersion(id: string, version: HybridTime | null, ts: Step['ts'], versions: ReadonlyMap<string, HybridTime>): void {
  if (ts === 'any' || ts === undefined) return
  if (ts === null) return expect([id, textOf(version)]).toEqual([id, undefined])
  const { is, gt, same, gtStep } = ts
  const equal = is ?? (same === undefined ? undefined : textOf(versions.get(same)!))
  if (equal !== undefined) return expect([id, version]).toEqual([id, parseHybridTime(equal)])
  const least = gt === undefined ? versions.get(gtStep!)! : parseHybridTime(gt)
  expect([id, compareHybridTimes(version!, least) > 0]).toEqual([id, true])
}
