import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { compareClocks, type HybridClock, parseClock } from '#shared/state-store/hybrid-clock.ts'
import { REQUEST_TOPIC } from '#shared/state-store/topics.ts'
import { KeyStoreRig, START_MS } from './key-store-rig.contract.ts'

type Expected = null | 'any' | { readonly is?: string; readonly gt?: string; readonly same?: string; readonly gtStep?: string }

interface Step {
  readonly id: string
  readonly client?: string
  readonly clockMs: number
  readonly props?: { readonly __ts?: string; readonly __ft?: string | { readonly tsOf: string } }
  /** Absent: time passes. */
  readonly request?: string
  readonly response?: string
  readonly ts?: Expected
  readonly notify?: readonly { readonly to: string; readonly topic: string; readonly payload: string; readonly ts: Expected }[]
}

interface Vectors {
  readonly requestTopic: string
  readonly scenarios: readonly { readonly name: string; readonly steps: readonly Step[] }[]
}

const vectors = JSON.parse(readFileSync(new URL('../../shared/state-store/vectors.json', import.meta.url), 'utf8')) as Vectors

const CONNECTIONS = ['Client1', 'Client2', 'client-id1']

function clockIn(text: string): HybridClock {
  const clock = parseClock(text)
  if (clock === null) throw new Error(`${text} is no clock`)
  return clock
}

/** Whether `actual` is the clock that a vector asks for. */
function expectClock(actual: string | null, expected: Expected, given: ReadonlyMap<string, string>): void {
  if (expected === 'any') return
  if (expected === null) return expect(actual).toBeNull()
  const order = (other: string): number => compareClocks(clockIn(actual!), clockIn(other))
  if (expected.is !== undefined) expect(order(expected.is), `${actual} is ${expected.is}`).toBe(0)
  if (expected.gt !== undefined) expect(order(expected.gt), `${actual} > ${expected.gt}`).toBe(1)
  if (expected.same !== undefined) expect(actual).toBe(given.get(expected.same))
  if (expected.gtStep !== undefined) expect(order(given.get(expected.gtStep)!), `${actual} > ${expected.gtStep}`).toBe(1)
}

function run(rig: KeyStoreRig, step: Step, given: Map<string, string>): void {
  rig.clock.advance(step.clockMs - rig.now.wallMs)
  rig.due()
  if (step.request !== undefined) {
    const { __ts: ts = null, __ft: token = null } = step.props ?? {}
    const ft = token === null || typeof token === 'string' ? token : given.get(token.tsOf)!
    const client = step.client ?? 'Client1'
    const options = { ts, ft, client, connection: CONNECTIONS.indexOf(client) }
    const { answer, version } = rig.askBytes(Buffer.from(step.request, 'latin1'), options)
    expect(answer, step.id).toBe(step.response)
    if (version !== null) given.set(step.id, version)
    expectClock(version, step.ts!, given)
  }
  const told = rig.takeTold()
  if (step.notify === undefined) return
  expect(told.map(({ to, topic, payload }) => ({ to, topic, payload }))).toEqual(
    step.notify.map(({ to, topic, payload }) => ({ to, topic, payload })),
  )
  step.notify.forEach(({ ts }, index) => expectClock(told[index]!.ts, ts, given))
}

describe('every published vector', () => {
  test.each(vectors.scenarios)('$name', ({ steps }) => {
    const rig = new KeyStoreRig()
    const given = new Map<string, string>()
    for (const step of steps) run(rig, step, given)
  })

  test.each(vectors.scenarios)('$name, with another owner after each step', ({ steps }) => {
    const rig = new KeyStoreRig()
    const given = new Map<string, string>()
    steps.forEach((step, index) => {
      run(rig, step, given)
      if (index % 2 === 0) rig.compact()
      rig.replay()
    })
  })

  test('are these', () => {
    expect(vectors.requestTopic).toBe(REQUEST_TOPIC)
    expect(vectors.scenarios[0]!.steps[0]!.clockMs).toBe(START_MS)
    expect(vectors.scenarios.flatMap(({ steps }) => steps.map(({ id }) => id))).toEqual(
      Array.from({ length: 82 }, (_, index) => `v${String(index + 1).padStart(2, '0')}`),
    )
  })
})
