import type { Labels, MetricsRegistry, Sample } from '../telemetry/metrics.ts'
import { LINK_REFUSALS } from './handshake.ts'
import type { LinkRefusal } from './handshake.ts'
import { LinkMethod } from './link-methods.ts'

const METHODS = 256

/** What the links of a process did. Indexed by method; bytes include the frames' headers. */
export class LinkCounters {
  readonly sentFrames = new Float64Array(METHODS)
  readonly sentBytes = new Float64Array(METHODS)
  readonly receivedFrames = new Float64Array(METHODS)
  readonly receivedBytes = new Float64Array(METHODS)
  /** By place in LINK_REFUSALS, handshakes of listeners and of dialers. */
  readonly refusedByListener = new Float64Array(LINK_REFUSALS.length)
  readonly refusedToDialer = new Float64Array(LINK_REFUSALS.length)
  /** Links closed because what came was no frame, or a frame whose body its handler could not read. */
  malformed = 0
  /** Links closed because a handler threw something else: a fault of ours. */
  handlerFaults = 0
  /** Links closed because nothing was heard. */
  silent = 0
  /** Links closed because the peer left too much untaken. */
  overHardLimit = 0
  opened = 0
  closed = 0
  /** Times that a link became congested. */
  congestions = 0
  writes = 0

  refused(side: 'listener' | 'dialer', reason: LinkRefusal): void {
    const counts = side === 'listener' ? this.refusedByListener : this.refusedToDialer
    counts[LINK_REFUSALS.indexOf(reason)]! += 1
  }
}

/** What is counted, and how the links stand now. */
export interface LinkTotals {
  readonly counters: LinkCounters
  readonly openCount: number
  readonly congestedCount: number
  /** Sent and not yet taken by the peers. */
  readonly unacknowledgedBytes: number
  readonly unauthenticatedCount: number
}

/** @param methodNames by method number; a method without a name is not shown unless it was used */
export function registerLinkMetrics(metrics: MetricsRegistry, links: LinkTotals, methodNames: readonly (string | undefined)[]): void {
  const { counters } = links
  const names = allNames(methodNames)
  const byMethod = (name: string, help: string, counts: Float64Array): void =>
    metrics.counterFrom(name, help, () => methodSamples(counts, names))
  byMethod('millrace_rpc_sent_frames_total', 'Frames sent over links between services', counters.sentFrames)
  byMethod('millrace_rpc_sent_bytes_total', 'Bytes of frames sent over links between services', counters.sentBytes)
  byMethod('millrace_rpc_received_frames_total', 'Frames received over links between services', counters.receivedFrames)
  byMethod('millrace_rpc_received_bytes_total', 'Bytes of frames received over links between services', counters.receivedBytes)
  metrics.counterFrom('millrace_rpc_writes_total', 'Writes to the sockets of links', () => counters.writes)
  metrics.gauge('millrace_rpc_links', 'Open links between services', () => links.openCount)
  metrics.gauge('millrace_rpc_links_congested', 'Links whose peer takes too little', () => links.congestedCount)
  metrics.gauge('millrace_rpc_unacknowledged_bytes', 'Bytes sent over links that peers have not taken', () => links.unacknowledgedBytes)
  metrics.gauge(
    'millrace_rpc_unauthenticated',
    'Connections to this service that have not proven themselves',
    () => links.unauthenticatedCount,
  )
  metrics.counterFrom('millrace_rpc_links_opened_total', 'Links opened', () => counters.opened)
  metrics.counterFrom('millrace_rpc_congestions_total', 'Times that a link became congested', () => counters.congestions)
  metrics.counterFrom('millrace_rpc_links_closed_total', 'Links closed, by fault', () => closeSamples(counters))
  metrics.counterFrom('millrace_rpc_handshakes_refused_total', 'Connections between services that did not become links', () => [
    ...refusalSamples('listener', counters.refusedByListener),
    ...refusalSamples('dialer', counters.refusedToDialer),
  ])
}

function allNames(methodNames: readonly (string | undefined)[]): readonly (string | undefined)[] {
  const names = Array.from({ length: METHODS }, (_, method) => methodNames[method])
  names[LinkMethod.Heartbeat] ??= 'heartbeat'
  names[LinkMethod.Credit] ??= 'credit'
  return names
}

function methodSamples(counts: Float64Array, names: readonly (string | undefined)[]): readonly Sample[] {
  const samples: Sample[] = []
  for (const [method, value] of counts.entries()) {
    const name = names[method]
    if (name !== undefined || value > 0) samples.push({ labels: [['method', name ?? String(method)]], value })
  }
  return samples
}

function closeSamples({ closed, malformed, handlerFaults, silent, overHardLimit }: LinkCounters): readonly Sample[] {
  const faults = { malformed, handler: handlerFaults, silent, limit: overHardLimit }
  const plain = closed - malformed - handlerFaults - silent - overHardLimit
  return Object.entries({ ...faults, none: plain }).map(([fault, value]) => ({ labels: [['fault', fault]], value }))
}

function refusalSamples(side: string, counts: Float64Array): readonly Sample[] {
  return LINK_REFUSALS.map((reason, index) => {
    const labels: Labels = [
      ['side', side],
      ['reason', reason],
    ]
    return { labels, value: counts[index]! }
  })
}
