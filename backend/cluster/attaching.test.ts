import { beforeEach, describe, expect, test } from 'vitest'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { NEVER } from '../backend-rig.contract.ts'
import { ClusterRig } from './cluster-rig.contract.ts'
import type { RigClusterClient } from './rig-frontend.contract.ts'

let rig: ClusterRig
let clientId: string

beforeEach(async () => {
  rig = await ClusterRig.open({ frontends: ['f', 'g'] })
  clientId = rig.keyIn(0, 'c')
})

/** The owner has the request and has not stored it. */
function reach(...frontends: string[]): void {
  const owner = rig.backend('a')
  owner.store.isPrompt = false
  for (const id of frontends) rig.linkOf(id, 'a').pair.deliver()
  rig.endTurn(owner)
}

function client(frontend = 'f'): RigClusterClient {
  return rig.frontend(frontend).client(clientId)
}

describe('attach repeated', () => {
  test.each([
    ['found no session, and is stored', false, false, 1, false],
    ['found no session, and is lost', false, false, 0, false],
    ['found a session, and is stored', true, false, 1, true],
    ['found a session, and is lost', true, false, 0, true],
    ['ended a session, and is stored', true, true, 1, false],
    ['ended a session, and is lost', true, true, 0, false],
  ] as const)('[MQTT-3.2.2-2] says the truth of Session Present: it %s', async (_, hasSession, cleanStart, reached, isPresent) => {
    if (hasSession) {
      const before = await rig.frontend().connect(clientId, { expirySeconds: NEVER })
      before.subscribe('x')
      before.detach()
      await rig.settle()
    }
    const one = client()
    one.attach({ expirySeconds: NEVER, cleanStart })
    reach('f')
    rig.kill('a', reached)
    expect(one.reply).toBeNull()
    await rig.takeOrphans('b')
    await rig.settle()
    expect(one.reply).toMatchObject({ is: 'attached', sessionPresent: isPresent })
    const session = rig.backend('b').engine.shards[0]!.sessions.get(clientId)!
    expect(session.subscriptions?.size ?? 0).toBe(isPresent ? 1 : 0)
    expect(rig.backend('b').engine.counters).toMatchObject({ sessionsConnected: 1, sessionsTotal: 1, takeovers: 0 })
  })

  test('on another link of the same frontend, to the same owner, is one connection: no Will, nothing taken over', async () => {
    const one = client()
    const will = { message: rig.message('will', 'gone', { qos: 1 }), delaySeconds: 0 }
    one.attach({ expirySeconds: NEVER, will })
    reach('f')
    rig.cut('f', 'a')
    rig.heal()
    await rig.settle()
    expect(one.reply).toMatchObject({ is: 'attached', sessionPresent: false })
    const { engine } = rig.backend('a')
    expect(engine.counters).toMatchObject({ sessionsConnected: 1, willMessages: 1, takeovers: 0 })
    await rig.advance(10_000)
    expect(engine.counters).toMatchObject({ sessionsConnected: 1, willMessages: 1 })
    expect(one.take()).toEqual([])
  })

  test('after it was given up as nobody came back for it: its client still learns that there was no session', async () => {
    const one = client()
    one.attach({ expirySeconds: NEVER })
    rig.linkOf('f', 'a').pair.deliver()
    rig.endTurn(rig.backend('a'))
    rig.cut('f', 'a')
    await rig.advance(2_000)
    expect(rig.backend('a').engine.counters.sessionsConnected).toBe(0)
    rig.heal()
    await rig.settle()
    expect(one.reply).toMatchObject({ is: 'attached', sessionPresent: false })
    expect(rig.backend('a').engine.counters).toMatchObject({ sessionsConnected: 1, sessionsTotal: 1 })
  })

  test('while its shard is let go: is asked of the next owner, and not refused', async () => {
    const one = client()
    one.attach({ expirySeconds: NEVER })
    reach('f')
    await rig.move(0, 'b')
    await rig.settle()
    expect(one.reply).toMatchObject({ is: 'attached', sessionPresent: false })
    expect(rig.backend('b').engine.counters).toMatchObject({ sessionsConnected: 1, takeovers: 0 })
  })

  test('of a shard that comes back before it was stored', async () => {
    const one = client()
    one.attach({ expirySeconds: NEVER })
    reach('f')
    await rig.take(0, 'b')
    rig.backend('a').cluster.hosting.drop(0)
    await rig.take(0, 'a')
    rig.backend('b').cluster.hosting.drop(0)
    await rig.settle()
    expect(one.reply).toMatchObject({ is: 'attached', sessionPresent: false })
    expect(rig.backend('a').engine.counters).toMatchObject({ sessionsConnected: 1, sessionsTotal: 1, takeovers: 0 })
  })

  test('of a connection that is gone by then leaves nobody connected', async () => {
    const one = client()
    one.attach({ expirySeconds: 10 })
    reach('f')
    one.detach()
    rig.kill('a', 1)
    await rig.takeOrphans('b')
    await rig.settle()
    expect(rig.backend('b').engine.counters).toMatchObject({ sessionsConnected: 0, sessionsTotal: 1 })
    await rig.advance(12_000)
    expect(rig.backend('b').engine.counters.sessionsTotal).toBe(0)
  })
})

describe('two frontends with the same client', () => {
  test('before the first is stored: the second has it, and the first knows, though both call their connection the same', async () => {
    const [one, two] = [client('f'), client('g')]
    expect(one.connection).toBe(two.connection)
    one.attach({ expirySeconds: NEVER })
    two.attach({ expirySeconds: NEVER })
    reach('f', 'g')
    await rig.settle()
    expect(two.reply).toMatchObject({ is: 'attached' })
    expect(one.take()).toEqual([{ is: 'disconnect', reason: ReasonCode.SessionTakenOver }])
    expect(one.reply).toMatchObject({ is: 'refused', reason: ReasonCode.SessionTakenOver })
    expect(rig.backend('a').engine.counters.sessionsConnected).toBe(1)
  })

  test('across a failover: one connection is left, and the other is told', async () => {
    const [one, two] = [client('f'), client('g')]
    one.attach({ expirySeconds: NEVER })
    two.attach({ expirySeconds: NEVER })
    reach('f', 'g')
    rig.kill('a', 1)
    await rig.takeOrphans('b')
    await rig.settle()
    const ended = [one, two].filter(({ isGone }) => isGone)
    expect(ended).toHaveLength(1)
    expect(rig.backend('b').engine.counters).toMatchObject({ sessionsConnected: 1, sessionsTotal: 1 })
    await rig.advance(10_000)
    expect([one, two].filter(({ isGone }) => isGone)).toEqual(ended)
  })
})

test('numbers of sessions are never given out again', async () => {
  const used = new Set<number>()
  for (let round = 0; round < 6; round++) {
    const one = await rig.frontend().connect(clientId, { expirySeconds: NEVER, cleanStart: true })
    await rig.settle()
    const owner = rig.ownerOf(0)!
    const { number } = owner.engine.shards[0]!.sessions.get(clientId)!
    expect(used.has(number)).toBe(false)
    used.add(number)
    one.detach()
    if (round === 2) {
      owner.store.snapshotDue = 0
      await rig.advance(100)
    }
    await rig.settle()
    if (round % 2 === 0) await rig.move(0, owner.id === 'a' ? 'b' : 'a')
    else await rig.take(0, owner.id === 'a' ? 'b' : 'a')
    await rig.settle()
  }
})
