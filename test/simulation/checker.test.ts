import { describe, expect, test } from 'vitest'
import { check, type Rule } from './checker.ts'
import type { Happening, HistoryEvent, Qos } from './history.ts'

const TOPIC = 't/1'

/** A history written by hand: each step is what a client does and sees when all is well. */
class Story {
  readonly events: HistoryEvent[] = []
  #passedMs = 0

  add(...happenings: readonly Happening[]): this {
    for (const happening of happenings) this.events.push({ ...happening, ms: this.#passedMs + this.events.length })
    return this
  }

  wait(ms: number): this {
    this.#passedMs += ms
    return this
  }

  connect(client: string, options: { readonly present?: boolean; readonly clean?: boolean; readonly persistent?: boolean } = {}): this {
    const { present = false, clean = false, persistent = true } = options
    return this.add(
      { is: 'connect', client, isClean: clean, isPersistent: persistent, to: 'f1' },
      { is: 'connack', client, isPresent: present },
    )
  }

  subscribe(client: string, filter: string, qos: Qos = 2, noLocal = false): this {
    return this.add({ is: 'subscribe', client, filter, qos, noLocal }, { is: 'suback', client, filter, granted: qos })
  }

  unsubscribe(client: string, filter: string): this {
    return this.add({ is: 'unsubscribe', client, filter }, { is: 'unsuback', client, filter })
  }

  send(message: string, qos: Qos, options: { readonly retain?: boolean; readonly again?: boolean; readonly topic?: string } = {}): this {
    const { retain = false, again = false, topic = TOPIC } = options
    return this.add({ is: 'publish', client: message.split(':')[0]!, message, topic, qos, retain, isRepeat: again })
  }

  acknowledge(message: string, reason = 0): this {
    return this.add({ is: 'acknowledged', client: message.split(':')[0]!, message, reason })
  }

  publish(message: string, qos: Qos, options: { readonly retain?: boolean; readonly topic?: string } = {}): this {
    return this.send(message, qos, options).acknowledge(message)
  }

  receive(
    client: string,
    message: string,
    qos: Qos,
    options: { readonly retain?: boolean; readonly repeat?: boolean; readonly topic?: string } = {},
  ): this {
    const { retain = false, repeat = false, topic = TOPIC } = options
    return this.add({ is: 'received', client, message, topic, qos, retain, dup: repeat, isRepeat: repeat })
  }

  close(client: string, how: 'disconnected' | 'cut' | 'byServer' = 'cut'): this {
    return this.add({ is: 'closed', client, how, reason: 0 })
  }

  get broken(): Rule[] {
    return check(this.events).map(({ rule }) => rule)
  }
}

function pair(): Story {
  return new Story().connect('p').connect('s').subscribe('s', 't/+')
}

function group(): Story {
  return new Story().connect('p').connect('s').connect('r').subscribe('s', '$share/g/t/1').subscribe('r', '$share/g/t/1')
}

describe('what is allowed', () => {
  test.each<[string, Story]>([
    ['everything acknowledged comes, in order', pair().publish('p:1', 1).publish('p:2', 1).receive('s', 'p:1', 1).receive('s', 'p:2', 1)],
    ['QoS 1 comes again', pair().publish('p:1', 1).receive('s', 'p:1', 1).receive('s', 'p:1', 1)],
    ['QoS 2 is repeated under its identifier', pair().publish('p:1', 2).receive('s', 'p:1', 2).receive('s', 'p:1', 2, { repeat: true })],
    ['what was not acknowledged is lost', pair().send('p:1', 1)],
    ['what was refused is lost', pair().send('p:1', 1).acknowledge('p:1', 0x97)],
    ['QoS 0 is lost', pair().send('p:1', 0)],
    ['a Subscription with QoS 0 is owed nothing', new Story().connect('p').connect('s').subscribe('s', TOPIC, 0).publish('p:1', 1)],
    ['sent before SUBACK', new Story().connect('p').connect('s').send('p:1', 1).subscribe('s', TOPIC).acknowledge('p:1')],
    ['not delivered yet at UNSUBSCRIBE', pair().publish('p:1', 1).unsubscribe('s', 't/+')],
    ['sent before UNSUBACK, delivered after it', pair().send('p:1', 1).unsubscribe('s', 't/+').acknowledge('p:1').receive('s', 'p:1', 1)],
    ['a session that starts anew', pair().publish('p:1', 1).close('s').connect('s', { clean: true })],
    [
      'a session that ends with its connection',
      new Story().connect('p').connect('s', { clean: true, persistent: false }).subscribe('s', TOPIC).publish('p:1', 1).close('s'),
    ],
    [
      'a session made by a CONNECT without answer',
      new Story()
        .add({ is: 'connect', client: 's', isClean: false, isPersistent: true, to: 'f1' })
        .close('s')
        .connect('s', { present: true }),
    ],
    ['different QoS overtake each other', pair().publish('p:1', 2).publish('p:2', 1).receive('s', 'p:2', 1).receive('s', 'p:1', 2)],
    [
      'a Retained Message beside the live one',
      pair().publish('p:1', 2, { retain: true }).receive('s', 'p:1', 2).receive('s', 'p:1', 2, { retain: true }),
    ],
    ['one member gets it', group().publish('p:1', 2).receive('r', 'p:1', 2)],
    [
      'the last acknowledged is retained',
      pair().publish('p:1', 1, { retain: true }).receive('s', 'p:1', 1).add({ is: 'retained', topic: TOPIC, message: 'p:1' }),
    ],
    [
      'a later one without answer is retained',
      pair()
        .publish('p:1', 1, { retain: true })
        .send('p:2', 1, { retain: true })
        .receive('s', 'p:1', 1)
        .add({ is: 'retained', topic: TOPIC, message: 'p:2' }),
    ],
    ['the store may forget', pair().publish('p:1', 1).add({ is: 'mayForget', sinceMs: 0, what: 'failover' })],
    [
      'one owner for each epoch',
      new Story().add({ is: 'owned', process: 'b1', shard: 1, epoch: 1 }, { is: 'owned', process: 'b2', shard: 1, epoch: 2 }),
    ],
  ])('%s', (_, story) => {
    expect(check(story.events)).toEqual([])
  })
})

describe('a planted fault is found', () => {
  test.each<[Rule, string, Story]>([
    ['lost', 'QoS 1 acknowledged and gone', pair().publish('p:1', 1)],
    ['lost', 'QoS 2 acknowledged and gone', pair().publish('p:1', 2)],
    ['lost', 'while the subscriber was away', pair().close('s').publish('p:1', 1).connect('s', { present: true })],
    [
      'lost',
      'acknowledged before what the store may forget',
      pair().publish('p:1', 1).wait(5_000).add({ is: 'mayForget', sinceMs: 5_000, what: 'failover' }),
    ],
    [
      'lost',
      'acknowledged after what the store may forget',
      pair().wait(5_000).add({ is: 'mayForget', sinceMs: 5_000, what: 'failover' }).wait(5_000).publish('p:1', 1),
    ],
    ['lost', 'sent right after SUBACK', new Story().connect('p').connect('s').subscribe('s', TOPIC).publish('p:1', 1)],
    ['duplicate', 'QoS 2 twice', pair().publish('p:1', 2).receive('s', 'p:1', 2).receive('s', 'p:1', 2)],
    [
      'duplicate',
      'QoS 2 again after a reconnect',
      pair().publish('p:1', 2).receive('s', 'p:1', 2).close('s').connect('s', { present: true }).receive('s', 'p:1', 2),
    ],
    ['order', 'a later one first', pair().publish('p:1', 1).publish('p:2', 1).receive('s', 'p:2', 1).receive('s', 'p:1', 1)],
    ['order', 'QoS 0 on one connection', pair().send('p:1', 0).send('p:2', 0).receive('s', 'p:2', 0).receive('s', 'p:1', 0)],
    ['unasked', 'sent after UNSUBACK', pair().unsubscribe('s', 't/+').publish('p:1', 1).receive('s', 'p:1', 1)],
    [
      'unasked',
      'no such Subscription',
      new Story().connect('p').connect('s').subscribe('s', 'other').publish('p:1', 1).receive('s', 'p:1', 1),
    ],
    [
      'unasked',
      'a Subscription of a former session',
      pair().close('s').connect('s', { clean: true }).publish('p:1', 1).receive('s', 'p:1', 1),
    ],
    ['no-local', 'its own message', new Story().connect('p').subscribe('p', TOPIC, 1, true).publish('p:1', 1).receive('p', 'p:1', 1)],
    ['unknown', 'bytes that nobody sent', pair().publish('p:1', 1).receive('s', 'p:1', 1).receive('s', '\u00ee\u00ee', 1)],
    ['session-lost', 'Session Present is not set', new Story().connect('s').close('s').connect('s')],
    ['session-made-up', 'after Clean Start', new Story().connect('s').close('s').connect('s', { clean: true, present: true })],
    ['session-made-up', 'at the first CONNECT', new Story().connect('s', { present: true })],
    ['group-lost', 'no member gets it', group().publish('p:1', 1)],
    ['group-duplicate', 'two members get it', group().publish('p:1', 2).receive('s', 'p:1', 2).receive('r', 'p:1', 2)],
    [
      'retained',
      'an older one',
      pair()
        .publish('p:1', 1, { retain: true })
        .publish('p:2', 1, { retain: true })
        .receive('s', 'p:1', 1)
        .receive('s', 'p:2', 1)
        .add({ is: 'retained', topic: TOPIC, message: 'p:1' }),
    ],
    [
      'retained',
      'nothing',
      pair().publish('p:1', 1, { retain: true }).receive('s', 'p:1', 1).add({ is: 'retained', topic: TOPIC, message: null }),
    ],
    [
      'two-owners',
      'of one epoch',
      new Story().add({ is: 'owned', process: 'b1', shard: 1, epoch: 1 }, { is: 'owned', process: 'b2', shard: 1, epoch: 1 }),
    ],
    ['wrong', 'the client says so', new Story().add({ is: 'wrong', client: 's', what: 'x' })],
    ['stuck', 'the client still waits', new Story().add({ is: 'stuck', client: 's', what: 'x' })],
  ])('%s: %s', (rule, _, story) => {
    expect(story.broken).toEqual([rule])
  })
})
