import { describe, expect, onTestFinished, test } from 'vitest'
import { AuthServiceCalls } from '#shared/rpc/auth-calls.ts'
import { AuthAskerDispatch } from '#shared/rpc/auth-dispatch.ts'
import type { AuthAskerPort } from '#shared/rpc/auth-port.ts'
import { linkPair, type LinkPair } from '#shared/rpc/link-pair.contract.ts'
import type { Role } from '#shared/rpc/link.ts'
import { AskerLinks } from './asker-links.ts'
import { SCRAM, ServiceRig, USERS, valid, X509 } from './service-rig.contract.ts'

interface Linked {
  readonly pair: LinkPair
  readonly calls: AuthServiceCalls
  readonly heard: unknown[][]
}

function open() {
  const rig = new ServiceRig()
  onTestFinished(() => rig.service.close())
  rig.apply({ authentications: { main: [SCRAM], other: [X509] }, secrets: USERS })
  return { rig, askers: new AskerLinks(rig.service) }
}

/** A link of such a process; null when it is declined. */
function link(askers: AskerLinks, role: Role = 'frontend'): Linked | null {
  const at = (of: Role) => ({ role: of, id: of, instance: '1', protocolVersion: 1 })
  const pair = linkPair(at(role), at('authsvc'))
  const heard: unknown[][] = []
  const note =
    (name: keyof AuthAskerPort) =>
    (...args: unknown[]) =>
      void heard.push([name, ...args])
  const port: AuthAskerPort = {
    verdict: note('verdict'),
    authorized: note('authorized'),
    rechecked: note('rechecked'),
    standing: note('standing'),
    leaving: note('leaving'),
  }
  const dispatch = new AuthAskerDispatch(port, false)
  pair.a.start({ onFrame: (method, body) => dispatch.dispatch(method, body), onCongestion: () => undefined, onClosed: () => undefined })
  const accepted = askers.accept(pair.b)
  if ('declined' in accepted) return null
  pair.b.start(accepted)
  return { pair, calls: new AuthServiceCalls(pair.a), heard }
}

async function settled({ pair, heard }: Linked): Promise<readonly unknown[][]> {
  pair.deliver()
  await new Promise(resolve => setImmediate(resolve))
  pair.deliver()
  return heard.splice(0)
}

test.each<[Role, number]>([
  ['frontend', 1],
  ['backend', 0],
  ['authsvc', 0],
])('a %s may ask: %i', (role, count) => {
  const { askers } = open()
  expect([link(askers, role) === null, askers.count]).toEqual([count === 0, count])
})

describe('what frontends are told', () => {
  test('first how everything stands, then what has changed and what is new', async () => {
    const { rig, askers } = open()
    const frontend = link(askers)!
    const first = await settled(frontend)
    expect(first.map(([name, of, , isChanged]) => [name, of, isChanged])).toEqual([
      ['standing', 'main', false],
      ['standing', 'other', false],
    ])
    rig.apply({ authentications: { main: [SCRAM], other: [X509], third: [X509] }, secrets: { users: { bob: 'y' } } })
    askers.onApplied()
    const news = await settled(frontend)
    expect(news.map(([name, of, , isChanged]) => [name, of, isChanged])).toEqual([
      ['standing', 'main', true],
      ['standing', 'third', false],
    ])
    expect(news[0]![2]).not.toBe(first[0]![2])
    expect(JSON.stringify(news)).not.toContain('bob')
  })

  test('what cannot be used any more is a change too', async () => {
    const { rig, askers } = open()
    const frontend = link(askers)!
    await settled(frontend)
    rig.apply({ authentications: { main: [SCRAM], other: [X509] } })
    askers.onApplied()
    expect(await settled(frontend)).toEqual([['standing', 'main', 'unusable', true]])
  })

  test('that the service leaves; a link that comes later is declined', async () => {
    const { askers } = open()
    const frontend = link(askers)!
    await settled(frontend)
    askers.leave()
    expect([await settled(frontend), link(askers)]).toEqual([[['leaving']], null])
  })
})

test('an answer to a frontend that is gone is nobody\u2019s; others go on', async () => {
  const { rig, askers } = open()
  rig.answer('Scram', valid())
  const [gone, other] = [link(askers)!, link(askers)!]
  gone.calls.authenticate(1, rig.request())
  other.calls.authenticate(2, rig.request())
  gone.pair.deliver()
  gone.pair.cut()
  const heard = (await settled(other)).filter(([name]) => name === 'verdict')
  expect([askers.count, heard.length, heard[0]![1], rig.asked.length]).toEqual([1, 1, 2, 2])
})

test('bytes that are no call end their link alone', async () => {
  const { rig, askers } = open()
  rig.answer('Scram', valid())
  const [bad, other] = [link(askers)!, link(askers)!]
  bad.pair.a.beginFrame(200).u8(0xff)
  bad.pair.a.endFrame()
  bad.pair.deliver()
  expect([bad.pair.b.closed?.startsWith('handler:'), askers.count]).toEqual([true, 1])
  other.calls.authenticate(1, rig.request())
  expect((await settled(other)).filter(([name]) => name === 'verdict')).toHaveLength(1)
})
