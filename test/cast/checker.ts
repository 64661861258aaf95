import type { Inbox, Publication } from './ledger.ts'

/** What a session with Subscriptions that never change was owed, and what it got. */
export interface SessionHistory {
  readonly name: string
  readonly owed: readonly Publication[]
  readonly wants: (publication: Publication) => boolean
  readonly inbox: Inbox
}

/** A span in which a Subscription stood or may have stood, in ticks of the ledger; Infinity: not yet. */
export interface Span {
  readonly subscribeAt: number
  subackAt: number
  unsubscribeAt: number
  unsubackAt: number
}

/** A session whose Subscription to all topics that start with `topics` comes and goes. */
export interface ChurnHistory {
  readonly name: string
  readonly topics: string
  readonly spans: readonly Span[]
  readonly inbox: Inbox
}

/** What happened to all sessions; `group` are the members of one Shared Subscription to `jobs/#`. */
export interface History {
  readonly publications: readonly Publication[]
  readonly sessions: readonly SessionHistory[]
  readonly group: readonly Inbox[]
  readonly churners: readonly ChurnHistory[]
}

/** A message that was acknowledged and has not come. */
export interface Missing {
  readonly publication: Publication
  readonly to: string
  /** What happened around it, with times. */
  readonly around?: string
}

export function missingText({ publication: { topic, number, qos }, to, around }: Missing): string {
  return `${topic} ${number} (QoS ${qos}) to ${to}${around === undefined ? '' : `; ${around}`}`
}

/** When it was sent and acknowledged; of a Subscription that comes and goes, also since when and until when it stood. */
export function aroundMissing({ publication, to }: Missing, { churners }: History, timeOf: (tick: number | null) => string): string {
  const { sentAt, acknowledgedAt } = publication
  const spans = (churners.find(({ name }) => name === to)?.spans ?? [])
    .filter(({ subackAt, unsubscribeAt }) => subackAt < sentAt && acknowledgedAt! < unsubscribeAt)
    .map(
      ({ subscribeAt, subackAt, unsubscribeAt, unsubackAt }) =>
        `, subscribed ${timeOf(subscribeAt)} to ${timeOf(subackAt)}, unsubscribed ${timeOf(unsubscribeAt)} to ${timeOf(unsubackAt)}`,
    )
  return `sent ${timeOf(sentAt)}, acknowledged ${timeOf(acknowledgedAt)}${spans.join('')}`
}

/** Acknowledged messages that have not come to whom they were owed (invariant 3 of ARCHITECTURE.md). */
export function missing({ publications, sessions, group, churners }: History): Missing[] {
  const ofSessions = sessions.flatMap(({ name, owed, wants, inbox }) =>
    owed.filter(each => each.acknowledgedAt !== null && wants(each) && !inbox.has(each)).map(publication => ({ publication, to: name })),
  )
  const ofGroup = publications
    .filter(each => each.topic.startsWith('jobs/') && each.acknowledgedAt !== null && !group.some(inbox => inbox.has(each)))
    .map(publication => ({ publication, to: 'the group' }))
  const ofChurners = churners.flatMap(churner =>
    churnMissing(churner, publications).map(publication => ({ publication, to: churner.name })),
  )
  return [...ofSessions, ...ofGroup, ...ofChurners]
}

/** Acknowledged while the Subscription stood without doubt, and not here. */
function churnMissing({ topics, spans, inbox }: ChurnHistory, publications: readonly Publication[]): Publication[] {
  return publications.filter(publication => {
    const { topic, sentAt, acknowledgedAt } = publication
    if (!topic.startsWith(topics) || acknowledgedAt === null || inbox.has(publication)) return false
    return spans.some(span => span.subackAt < sentAt && acknowledgedAt < span.unsubscribeAt)
  })
}

/** Messages that came to whom they must not: after UNSUBACK, or with QoS 2 to two members of a group. */
export function unwanted({ publications, group, churners }: History): string[] {
  const afterUnsuback = churners.flatMap(churner =>
    churnSurplus(churner, publications).map(({ topic, number }) => `${churner.name}: ${topic} ${number} came after UNSUBACK`),
  )
  const twice = publications.flatMap(publication => {
    const takers = group.filter(inbox => inbox.has(publication)).length
    return publication.qos === 2 && takers > 1 ? [`the group: ${publication.topic} ${publication.number} went to ${takers} members`] : []
  })
  return [...afterUnsuback, ...twice]
}

/** Published while there was no Subscription without doubt, and here nevertheless. */
function churnSurplus({ topics, spans, inbox }: ChurnHistory, publications: readonly Publication[]): Publication[] {
  return publications.filter(publication => {
    const { topic, sentAt, acknowledgedAt } = publication
    if (!topic.startsWith(topics) || acknowledgedAt === null || !inbox.has(publication)) return false
    return spans.every(span => acknowledgedAt < span.subscribeAt || span.unsubackAt < sentAt)
  })
}

/** Payloads that a topic's Retained Message was given, in order; null clears it. */
export interface RetainedHistory {
  readonly topic: string
  readonly payloads: readonly (string | null)[]
  /** Index of the last one acknowledged. */
  readonly acknowledged: number
}

/** Where `found` (payload by topic) is neither the last acknowledged state nor a later one. */
export function retainedDifferences(topics: readonly RetainedHistory[], found: ReadonlyMap<string, string>): string[] {
  return topics.flatMap(({ topic, payloads, acknowledged }) => {
    const payload = found.get(topic) ?? null
    if (payloads.includes(payload, acknowledged)) return []
    const name = (text: string | null | undefined): string =>
      text === null ? 'nothing' : text === undefined ? 'unknown' : text.slice(0, 24)
    return [
      `${topic} holds ${name(payload)}, acknowledged was ${name(payloads[acknowledged])}, sent ${payloads.length - 1 - acknowledged} after it`,
    ]
  })
}

/** A Will Message: its topic, and the number that its payload says. */
export interface WillNumber {
  readonly topic: string
  readonly number: number
}

/** Wills that are due and have not come. */
export function missingWills(owed: readonly WillNumber[], inbox: Inbox): string[] {
  return owed.filter(will => !inbox.has(will)).map(({ topic, number }) => `${topic} ${number} did not come`)
}

/** Wills that came although their clients had left in order, or were back in time; and those of QoS 2 that came again. */
export function wrongWills(forbidden: readonly WillNumber[], inbox: Inbox): string[] {
  const freed = forbidden.filter(will => inbox.has(will)).map(({ topic, number }) => `${topic} ${number} came`)
  return [...freed, ...inbox.duplicates.map(name => `${name} came twice`)]
}
