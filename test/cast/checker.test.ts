import { describe, expect, test } from 'vitest'
import { type History, missing, missingText, missingWills, retainedDifferences, type Span, unwanted, wrongWills } from './checker.ts'
import { Inbox, Ledger, type Publication } from './ledger.ts'

/** Six messages to a session, a group and a churner; delivered as they should be but for `faults`. */
function played(...faults: Fault[]): History & { readonly disordered: string[]; readonly duplicates: string[] } {
  const ledger = new Ledger()
  const [session, first, second, churned] = [0, 1, 2, 3].map(() => new Inbox('topicAndQos')) as [Inbox, Inbox, Inbox, Inbox]
  const spans: Span[] = [{ subscribeAt: ledger.tick(), subackAt: ledger.tick(), unsubscribeAt: Infinity, unsubackAt: Infinity }]
  const acknowledged = (topic: string, qos: 1 | 2): Publication => {
    const publication = ledger.begin(topic, qos)
    ledger.acknowledge(publication)
    return publication
  }
  const loads = [acknowledged('load/p/0', 1), acknowledged('load/p/0', 1), acknowledged('load/p/1', 2), acknowledged('load/p/1', 2)]
  const job = acknowledged('jobs/p', 2)
  const churn = acknowledged('churn/c0/p', 2)
  spans[0]!.unsubscribeAt = ledger.tick()
  spans[0]!.unsubackAt = ledger.tick()
  const late = acknowledged('churn/c0/p', 2)
  const deliver = (inbox: Inbox, { topic, number, qos }: Publication): void => inbox.receive(topic, number, qos, qos)
  const order = faults.includes('disorder') ? [1, 0, 2, 3] : [0, 1, 2, 3]
  for (const at of order.slice(0, faults.includes('lost') ? 3 : 4)) deliver(session, loads[at]!)
  if (faults.includes('duplicate')) deliver(session, loads[2]!)
  if (faults.includes('repeat')) deliver(session, loads[0]!)
  if (!faults.includes('lost in the group')) deliver(first, job)
  if (faults.includes('twice in the group')) deliver(second, job)
  if (!faults.includes('lost after SUBACK')) deliver(churned, churn)
  if (faults.includes('after UNSUBACK')) deliver(churned, late)
  return {
    publications: ledger.publications,
    sessions: [{ name: 's0', owed: ledger.publications, wants: ({ topic }) => topic.startsWith('load/'), inbox: session }],
    group: [first, second],
    churners: [{ name: 'c0', topics: 'churn/c0/', spans, inbox: churned }],
    disordered: session.disordered,
    duplicates: session.duplicates,
  }
}

type Fault =
  | 'lost'
  | 'duplicate'
  | 'repeat'
  | 'disorder'
  | 'lost in the group'
  | 'twice in the group'
  | 'lost after SUBACK'
  | 'after UNSUBACK'

describe('the checker finds what is planted in a history, and nothing else', () => {
  test.each<[Fault | 'nothing', object]>([
    ['nothing', {}],
    ['repeat', {}],
    ['lost', { lost: ['load/p/1 2 (QoS 2) to s0'] }],
    ['duplicate', { duplicates: ['load/p/1 1'] }],
    ['disorder', { disordered: ['load/p/0 1 after 2'] }],
    ['lost in the group', { lost: ['jobs/p 1 (QoS 2) to the group'] }],
    ['twice in the group', { unwanted: ['the group: jobs/p 1 went to 2 members'] }],
    ['lost after SUBACK', { lost: ['churn/c0/p 1 (QoS 2) to c0'] }],
    ['after UNSUBACK', { unwanted: ['c0: churn/c0/p 2 came after UNSUBACK'] }],
  ])('%s', (fault, found) => {
    const history = played(...(fault === 'nothing' ? [] : [fault]))
    const { disordered, duplicates } = history
    expect({ lost: missing(history).map(missingText), unwanted: unwanted(history), disordered, duplicates }).toEqual({
      lost: [],
      unwanted: [],
      disordered: [],
      duplicates: [],
      ...found,
    })
  })

  test('what was never acknowledged is not owed', () => {
    const history = played('lost')
    for (const publication of history.publications) publication.acknowledgedAt = null
    expect(missing(history)).toEqual([])
  })

  test('messages of another QoS have an order of their own where only that is promised', () => {
    const [strict, loose] = [new Inbox('topic'), new Inbox('topicAndQos')]
    for (const inbox of [strict, loose]) {
      inbox.receive('a', 2, 1, 1)
      // Published with QoS 2, delivered with QoS 1.
      inbox.receive('a', 1, 1, 2)
    }
    expect([strict.disordered, loose.disordered]).toEqual([['a 1 after 2'], []])
  })

  test.each([
    ['the last acknowledged', 'b', []],
    ['a later one, unacknowledged', 'c', []],
    ['an older one', 'a', ['kept holds a, acknowledged was b, sent 1 after it']],
    ['nothing', null, ['kept holds nothing, acknowledged was b, sent 1 after it']],
  ])('retained: %s', (_, payload, differences) => {
    const history = { topic: 'kept', payloads: [null, 'a', 'b', 'c'], acknowledged: 2 }
    expect(retainedDifferences([history], new Map(payload === null ? [] : [['kept', payload]]))).toEqual(differences)
  })

  test('Wills: missing, not due, twice', () => {
    const inbox = new Inbox()
    inbox.receive('will/a', 1, 2)
    inbox.receive('will/a', 1, 2)
    expect(
      missingWills(
        [
          { topic: 'will/a', number: 1 },
          { topic: 'will/b', number: 1 },
        ],
        inbox,
      ),
    ).toEqual(['will/b 1 did not come'])
    expect(wrongWills([{ topic: 'will/a', number: 1 }], inbox)).toEqual(['will/a 1 came', 'will/a 1 came twice'])
    expect(wrongWills([{ topic: 'will/b', number: 1 }], inbox)).toEqual(['will/a 1 came twice'])
  })
})
