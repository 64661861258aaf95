import { describe, expect, test } from 'vitest'
import type { ByteReader } from '../base/byte-reader.ts'
import { ManualClock } from '../base/clock.ts'
import type { LinkHandler, PeerIdentity } from './link.ts'
import { linkPair } from './link-pair.contract.ts'
import type { PairedLink } from './link-pair.contract.ts'

const A: PeerIdentity = { role: 'frontend', id: 'a', instance: 'a1', protocolVersion: 1 }
const B: PeerIdentity = { role: 'backend', id: 'b', instance: 'b1', protocolVersion: 1 }

class Heard implements LinkHandler {
  readonly texts: string[] = []
  onFrame(method: number, body: ByteReader): void {
    this.texts.push(`${method} ${body.text()}`)
  }
  onCongestion(isCongested: boolean): void {
    this.texts.push(isCongested ? 'congested' : 'relieved')
  }
  onClosed(reason: string): void {
    this.texts.push(`closed: ${reason}`)
  }
}

function send(link: PairedLink, method: number, text: string): void {
  link.beginFrame(method).text(text)
  link.endFrame()
}

describe('linkPair', () => {
  test('delivers in order, both ways, when told to', () => {
    const pair = linkPair(A, B)
    const [atA, atB] = [new Heard(), new Heard()]
    pair.a.start(atA)
    pair.b.start(atB)
    expect([pair.a.peer, pair.b.peer]).toEqual([B, A])
    send(pair.a, 1, 'one')
    send(pair.a, 2, 'two')
    send(pair.b, 3, 'three')
    expect(atB.texts).toEqual([])
    expect(pair.deliver()).toBe(3)
    expect(pair.deliver()).toBe(0)
    expect([atA.texts, atB.texts]).toEqual([['3 three'], ['1 one', '2 two']])
  })

  test('what a handler sends and what waits elsewhere is asked for once it is there', () => {
    let requests = 0
    const pair = linkPair(A, B, { onTraffic: () => requests++ })
    const atA = new Heard()
    pair.a.start(atA)
    pair.b.start({
      onFrame: (method, body) => send(pair.b, method + 1, body.text()),
      onCongestion: () => undefined,
      onClosed: () => undefined,
    })
    send(pair.a, 1, 'ping')
    expect(requests).toBe(1)
    expect(pair.deliver()).toBe(2)
    expect(atA.texts).toEqual(['2 ping'])
  })

  test('a cut loses what is under way and tells both once; later frames go nowhere', () => {
    const pair = linkPair(A, B)
    const [atA, atB] = [new Heard(), new Heard()]
    pair.a.start(atA)
    pair.b.start(atB)
    send(pair.a, 1, 'lost')
    pair.cut()
    pair.a.close('again')
    send(pair.a, 1, 'late')
    pair.deliver()
    expect([atA.texts, atB.texts]).toEqual([['closed: cut'], ['closed: cut']])
  })

  test('close is told with the next delivery', () => {
    const pair = linkPair(A, B)
    const [atA, atB] = [new Heard(), new Heard()]
    pair.a.start(atA)
    pair.b.start(atB)
    pair.b.close('done')
    expect(atB.texts).toEqual([])
    pair.deliver()
    expect([atA.texts, atB.texts]).toEqual([['closed: closed by the peer'], ['closed: done']])
  })

  test('congestion: by bytes, and forced', () => {
    const pair = linkPair(A, B, { windowBytes: 10 })
    const atA = new Heard()
    pair.a.start(atA)
    pair.b.start(new Heard())
    send(pair.a, 1, '123456789012')
    expect(pair.a.isCongested).toBe(true)
    pair.deliver()
    expect(pair.a.isCongested).toBe(false)
    pair.a.setCongested(true)
    pair.a.setCongested(false)
    expect(atA.texts).toEqual(['congested', 'relieved'])
  })

  test('a stalled network delivers nothing and is not heard', () => {
    const clock = new ManualClock(1_000)
    const pair = linkPair(A, B, { clock })
    const atB = new Heard()
    pair.a.start(new Heard())
    pair.b.start(atB)
    pair.tick()
    pair.isStalled = true
    clock.advance(700)
    send(pair.a, 1, 'x')
    pair.deliver()
    pair.tick()
    expect([pair.a.heardMs, pair.b.heardMs, atB.texts]).toEqual([1_000, 1_000, []])
    pair.isStalled = false
    pair.deliver()
    expect([pair.b.heardMs, atB.texts]).toEqual([1_700, ['1 x']])
  })

  test('a handler that throws ends the link; a view that it keeps is overwritten', () => {
    const pair = linkPair(A, B)
    let kept: Buffer = Buffer.alloc(0)
    const closed: string[] = []
    pair.a.start(new Heard())
    pair.b.start({
      onFrame: (method, body) => {
        kept = body.bytes()
        if (method === 2) throw new Error('no')
      },
      onCongestion: () => undefined,
      onClosed: reason => closed.push(reason),
    })
    send(pair.a, 1, 'abc')
    pair.deliver()
    expect(kept.toString('hex')).toBe('dbdbdb')
    send(pair.a, 2, 'abc')
    pair.deliver()
    expect([closed, pair.b.thrown]).toEqual([['handler: no'], [new Error('no')]])
  })
})
