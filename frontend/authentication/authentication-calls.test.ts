import { describe, expect, test } from 'vitest'
import type { ByteReader } from '#shared/base/byte-reader.ts'
import { ManualTimers } from '#shared/base/timers.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { AuthAskerCalls, AuthServiceCalls } from '#shared/rpc/auth-calls.ts'
import { AuthAskerDispatch, AuthServiceDispatch } from '#shared/rpc/auth-dispatch.ts'
import type { AuthServicePort } from '#shared/rpc/auth-port.ts'
import type { AuthenticationRequest, RecheckRequest, Verdict } from '#shared/rpc/authentication.ts'
import { linkPair, type LinkPair } from '#shared/rpc/link-pair.contract.ts'
import { AuthenticationCalls, type AuthenticationCallsLimits } from './authentication-calls.ts'

const POLICY = { authentication: { name: 'main', version: '1' }, authorizations: [] }
const RECHECK: RecheckRequest = { policy: POLICY, clientId: 'c', peerCertificates: null, proof: Buffer.from('p') }

function request(clientId: string): AuthenticationRequest {
  return {
    purpose: 'connect',
    listener: 'l',
    policy: POLICY,
    remoteAddress: '127.0.0.1',
    clientId,
    protocolVersion: 5,
    userName: null,
    password: null,
    authenticationMethod: null,
    authenticationData: null,
    peerCertificates: null,
    sealedState: null,
    proof: null,
  }
}

/** An authentication service at the other end of a link in memory, which answers when it is told to. */
class FakeService {
  readonly pair: LinkPair
  readonly asked: { readonly number: number; readonly clientId: string }[] = []
  readonly calls: AuthAskerCalls

  constructor(calls: AuthenticationCalls, windowBytes = Infinity) {
    const at = (role: 'frontend' | 'authsvc') => ({ role, id: role, instance: '1', protocolVersion: 1 })
    this.pair = linkPair(at('frontend'), at('authsvc'), { windowBytes })
    const { a, b } = this.pair
    const asker = new AuthAskerDispatch(calls.onLinkOpen(a, new AuthServiceCalls(a)), false)
    a.start({
      onFrame: (method: number, body: ByteReader) => asker.dispatch(method, body),
      onCongestion: isCongested => calls.onCongestion(a, isCongested),
      onClosed: () => calls.onLinkClosed(a),
    })
    const note = (number: number, { clientId }: { readonly clientId: string }): void => void this.asked.push({ number, clientId })
    const port: AuthServicePort = { authenticate: note, authorize: note, recheck: note }
    const service = new AuthServiceDispatch(port, false)
    b.start({ onFrame: (method, body) => service.dispatch(method, body), onCongestion: () => undefined, onClosed: () => undefined })
    this.calls = new AuthAskerCalls(b)
  }

  deliver(): void {
    this.pair.deliver()
  }

  get clients(): readonly string[] {
    this.deliver()
    return this.asked.map(({ clientId }) => clientId)
  }

  /** Refuses what it was asked so far, in order. */
  answer(cause: string): void {
    this.#answerAll({ is: 'refused', reason: ReasonCode.NotAuthorized, detail: '', cause, method: 'none' })
  }

  /** Cannot decide what it was asked so far. */
  shrug(cause: string): void {
    this.#answerAll({ is: 'unavailable', cause })
  }

  #answerAll(verdict: Verdict): void {
    this.deliver()
    for (const { number } of this.asked.splice(0)) this.calls.verdict(number, verdict)
    this.deliver()
  }
}

function setUp(services: number, limits: Partial<AuthenticationCallsLimits> = {}) {
  const timers = new ManualTimers()
  const calls = new AuthenticationCalls(timers, limits)
  const all = Array.from({ length: services }, () => new FakeService(calls))
  const answers: string[] = []
  const ask = (clientId: string): Promise<Verdict> => {
    const answer = calls.authenticate(request(clientId))
    void answer.then(verdict => answers.push(`${clientId}: ${'cause' in verdict ? verdict.cause : verdict.is}`))
    return answer
  }
  const settled = async (): Promise<readonly string[]> => {
    for (const service of all) service.deliver()
    await new Promise(resolve => setImmediate(resolve))
    return answers
  }
  return { timers, calls, all, ask, settled, answers }
}

describe('where a request goes', () => {
  test('to the service with least to do, in turn where they are equal', async () => {
    const { all, ask, settled } = setUp(2)
    const [one, two] = all as [FakeService, FakeService]
    for (const clientId of ['a', 'b', 'c', 'd']) void ask(clientId)
    expect([one.clients.length, two.clients.length]).toEqual([2, 2])
    one.answer('1')
    expect(await settled()).toHaveLength(2)
    for (const clientId of ['e', 'f']) void ask(clientId)
    expect([one.clients, two.clients.length]).toEqual([['e', 'f'], 2])
  })

  test('not to one that is congested, nor to one that leaves', () => {
    const { calls, all, ask } = setUp(3)
    const [one, two, three] = all as [FakeService, FakeService, FakeService]
    one.pair.a.setCongested(true)
    two.calls.leaving()
    two.deliver()
    expect(calls.linkCount).toBe(2)
    for (const clientId of ['a', 'b', 'c']) void ask(clientId)
    expect(three.clients).toEqual(['a', 'b', 'c'])
    expect([one.clients, two.clients]).toEqual([[], []])
  })

  test('none is there: it waits for one, and goes in the order in which it came', () => {
    const { calls, ask } = setUp(0)
    void ask('a')
    void ask('b')
    expect(new FakeService(calls).clients).toEqual(['a', 'b'])
  })

  test('none comes: it is unavailable after a moment', async () => {
    const { timers, ask, settled, calls } = setUp(0, { waitMs: 1_000 })
    void ask('a')
    timers.advance(999)
    expect(await settled()).toEqual([])
    timers.advance(1)
    expect(await settled()).toEqual(['a: no authentication service can be reached'])
    expect([calls.counters.unanswered, calls.openCount, timers.pendingCount]).toEqual([1, 0, 0])
  })

  test('all have as much as they may: it waits until one of them answers, or is not congested any more', () => {
    const { all, ask } = setUp(1, { asksPerLinkMax: 1 })
    const [one] = all as [FakeService]
    void ask('a')
    void ask('b')
    expect(one.clients).toEqual(['a'])
    one.pair.a.setCongested(true)
    one.answer('1')
    expect(one.clients).toEqual([])
    one.pair.a.setCongested(false)
    expect(one.clients).toEqual(['b'])
  })

  test('beyond the limit of all it is refused at once', async () => {
    const { all, ask, settled, calls } = setUp(1, { asksMax: 2 })
    for (const clientId of ['a', 'b', 'c']) void ask(clientId)
    expect(await settled()).toEqual(['c: 2 requests wait for the authentication services already'])
    all[0]!.answer('done')
    expect(await settled()).toHaveLength(3)
    expect([calls.counters.shed, calls.openCount]).toEqual([1, 0])
  })
})

describe('answers', () => {
  test('arrive whatever their order', async () => {
    const { all, ask, settled } = setUp(1)
    const [one] = all as [FakeService]
    void ask('a')
    void ask('b')
    one.deliver()
    for (const { number, clientId } of [...one.asked].reverse()) one.calls.verdict(number, { is: 'unavailable', cause: clientId })
    expect(await settled()).toEqual(['b: b', 'a: a'])
  })

  test('of each kind arrive', async () => {
    const { all, calls } = setUp(1)
    const [one] = all as [FakeService]
    const recheck = calls.recheck(RECHECK)
    const authorize = calls.authorize({ authorizations: [], clientId: 'c', identity: { userName: '', attributes: new Map() } })
    one.deliver()
    one.calls.rechecked(one.asked[0]!.number, { is: 'holds' })
    one.calls.authorized(one.asked[1]!.number, { is: 'refused', cause: 'why' })
    one.deliver()
    expect([await recheck, await authorize]).toEqual([{ is: 'holds' }, { is: 'refused', cause: 'why' }])
  })

  test('to another kind of request end the link, and let nobody in', async () => {
    const { all, ask, settled, timers } = setUp(1)
    const [one] = all as [FakeService]
    void ask('a')
    one.deliver()
    one.calls.rechecked(one.asked[0]!.number, { is: 'holds' })
    one.deliver()
    expect(one.pair.a.closed).toContain('an answer to recheck where authenticate was asked')
    timers.advance(1_000)
    expect(await settled()).toEqual(['a: no authentication service can be reached'])
  })

  test('that nobody waits for, and a second one, are counted and ignored', async () => {
    const { all, ask, settled, calls } = setUp(1)
    const [one] = all as [FakeService]
    void ask('a')
    one.deliver()
    const { number } = one.asked[0]!
    one.calls.verdict(number, { is: 'unavailable', cause: 'first' })
    one.calls.verdict(number, { is: 'unavailable', cause: 'second' })
    one.calls.verdict(9_999, { is: 'unavailable', cause: 'made up' })
    expect(await settled()).toEqual(['a: first'])
    expect(calls.counters.late).toBe(2)
  })
})

describe('a service that fails', () => {
  test('its link ends: what it was asked goes to another, that only once', async () => {
    const { all, ask, settled, calls } = setUp(2)
    const [one, two] = all as [FakeService, FakeService]
    for (const clientId of ['a', 'b', 'c', 'd']) void ask(clientId)
    one.deliver()
    one.pair.cut()
    expect([...two.clients].sort()).toEqual(['a', 'b', 'c', 'd'])
    two.answer('two')
    expect([...(await settled())].sort()).toEqual(['a: two', 'b: two', 'c: two', 'd: two'])
    expect([calls.counters.resent, calls.linkCount]).toEqual([2, 1])
  })

  test('it is slow: another is asked as well, and the first answer counts', async () => {
    const { all, ask, settled, timers, calls } = setUp(2, { answerMs: 3_000 })
    void ask('a')
    const [slow, other] = (all[0]!.clients.length > 0 ? all : [...all].reverse()) as [FakeService, FakeService]
    timers.advance(2_999)
    expect(other.clients).toEqual([])
    timers.advance(1)
    expect(other.clients).toEqual(['a'])
    slow.answer('slow')
    other.answer('other')
    expect(await settled()).toEqual(['a: slow'])
    expect(calls.counters).toMatchObject({ resent: 1, late: 1 })
    expect(timers.pendingCount).toBe(0)
  })

  test('it cannot decide: another is asked, at once; when none can, the last of them says why', async () => {
    const { all, ask, settled, calls, timers } = setUp(3)
    void ask('a')
    for (const cause of ['first', 'second', 'third']) {
      expect(await settled()).toEqual([])
      all.find(({ clients }) => clients.length > 0)!.shrug(cause)
    }
    expect(await settled()).toEqual(['a: third'])
    expect(calls.counters).toMatchObject({ resent: 2, late: 0, unanswered: 0 })
    expect([calls.openCount, timers.pendingCount]).toEqual([0, 0])
  })

  test('it cannot decide and answers at once: it has least to do, and draws nobody away from those who can', async () => {
    const { all, ask, settled } = setUp(2)
    const [broken, sound] = all as [FakeService, FakeService]
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 4; i++) {
        void ask('c')
        broken.shrug('broken')
      }
      sound.answer('sound')
    }
    expect(await settled()).toEqual(Array.from({ length: 12 }, () => 'c: sound'))
  })

  test('it is slow and cannot decide, while another one is asked as well: that one is waited for, not longer than for any', async () => {
    const { all, ask, settled, timers } = setUp(2, { answerMs: 3_000, deadlineMs: 8_000 })
    const slow = async (clientId: string): Promise<FakeService> => {
      void ask(clientId)
      const [first, other] = (all[0]!.clients.length > 0 ? all : [...all].reverse()) as [FakeService, FakeService]
      timers.advance(3_000)
      first.shrug('slow')
      expect((await settled()).some(each => each.startsWith(`${clientId}:`))).toBe(false)
      return other
    }
    ;(await slow('a')).answer('other')
    expect(await settled()).toEqual(['a: other'])
    await slow('b')
    timers.advance(5_000)
    expect((await settled())[1]).toBe('b: no answer within 8000 ms; slow')
  })

  test('all are slow: few requests are asked of two, so that slowness does not double what there is to do', async () => {
    const { all, ask, timers, calls, settled } = setUp(2, { answerMs: 1_000, slowMax: 2 })
    for (let i = 0; i < 32; i++) void ask(String(i))
    timers.advance(1_000)
    expect([all[0]!.clients.length + all[1]!.clients.length, calls.counters.resent]).toEqual([38, 6])
    timers.advance(5_000)
    expect(calls.counters.resent).toBe(6)
    for (const service of all) service.answer('slow')
    expect([(await settled()).length, timers.pendingCount]).toEqual([32, 0])
  })

  test('it is slow and there is no other: it is waited for up to the deadline', async () => {
    const { all, ask, settled, timers } = setUp(1, { answerMs: 3_000, deadlineMs: 8_000 })
    void ask('a')
    timers.advance(7_999)
    expect([all[0]!.clients, await settled()]).toEqual([['a'], []])
    timers.advance(1)
    expect(await settled()).toEqual(['a: no answer within 8000 ms'])
    all[0]!.answer('late')
    expect([await settled(), timers.pendingCount]).toEqual([['a: no answer within 8000 ms'], 0])
  })

  test('a request that ends every service that is asked does not go on to end them all', async () => {
    const { all, ask, settled } = setUp(6, { sendsMax: 4 })
    void ask('poison')
    for (;;) {
      const service = all.find(each => each.pair.a.closed === null && each.clients.length > 0)
      if (service === undefined) break
      service.pair.cut()
    }
    expect(await settled()).toEqual(['poison: none of 4 authentication services answered'])
    expect(all.filter(each => each.pair.a.closed !== null)).toHaveLength(4)
  })

  test('when this process stops, what is open is unavailable and no timer stays', async () => {
    const { ask, settled, calls, timers } = setUp(1)
    void ask('a')
    calls.close()
    expect([await settled(), timers.pendingCount]).toEqual([['a: this process stops'], 0])
  })
})

describe('news', () => {
  function heard(services: number) {
    const rig = setUp(services, { mergeMs: 200 })
    const names: string[] = []
    rig.calls.listen(name => names.push(name))
    const pass = (): readonly string[] => {
      for (const service of rig.all) service.deliver()
      rig.timers.advance(200)
      return names.splice(0)
    }
    return { ...rig, pass }
  }

  test('of several services within a moment are told once, later ones again', () => {
    const { all, pass } = heard(2)
    for (const service of all) service.calls.standing('main', 'd2', true)
    all[0]!.calls.standing('other', 'x', true)
    expect(pass()).toEqual(['main', 'other'])
    // The second service has heard of it later: only now does it answer by it.
    all[1]!.calls.standing('main', 'd2', true)
    expect(pass()).toEqual(['main'])
  })

  test('how things stand is no news, unless it is not as it was last heard', () => {
    const { all, calls, pass } = heard(1)
    all[0]!.calls.standing('main', 'd1', false)
    expect(pass()).toEqual([])
    all[0]!.pair.cut()
    const again = new FakeService(calls)
    again.calls.standing('main', 'd1', false)
    again.deliver()
    expect(pass()).toEqual([])
    again.pair.cut()
    const changed = new FakeService(calls)
    changed.calls.standing('main', 'd2', false)
    changed.deliver()
    expect(pass()).toEqual(['main'])
  })
})
