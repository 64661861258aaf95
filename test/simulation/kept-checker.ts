import { compareVersions } from '../linearizability/key-model.ts'
import type { Violation } from './checker.ts'
import type { HistoryEvent } from './history.ts'

/** What a client of a kept watch was told since it began, or began anew. */
interface Chain {
  readonly client: string
  readonly key: string
  /** Where it began, and what came. */
  readonly versions: string[]
  /** On the present connection the broker has said that it watches. */
  isOpen: boolean
}

/**
 * Who keeps a watch (docs/state-store.md, KEEP) either knows of every change since it began, in their order, or is told that there is a gap, whatever
 * becomes of its connections and of the brokers. What a failover of Redis may lose ends what is looked at.
 */
export function checkKept(events: readonly HistoryEvent[]): Violation[] {
  const untilMs = Math.min(...events.map(event => (event.is === 'mayForget' ? event.sinceMs : Infinity)))
  const [chains, changes] = read(events.filter(({ ms }) => ms <= untilMs))
  return chains.flatMap(({ client, key, versions, isOpen }) => {
    const [first, last] = [versions[0]!, versions.at(-1)!]
    const seen = new Set(versions)
    const missed = [...(changes.get(key) ?? [])].filter(version => {
      const isOwed = compareVersions(version, last) < 0 || (isOpen && untilMs === Infinity)
      return compareVersions(version, first) > 0 && isOwed && !seen.has(version)
    })
    return missed.map(
      (version): Violation => ({
        rule: 'store-kept',
        text: `${client} keeps a watch of ${key} since ${first}, knows of ${last}, and not of ${version}`,
        words: [client, version],
      }),
    )
  })
}

/** All chains, and of each key the versions of its changes that somebody knows of. */
function read(events: readonly HistoryEvent[]): readonly [readonly Chain[], ReadonlyMap<string, ReadonlySet<string>>] {
  const chains: Chain[] = []
  const present = new Map<string, Chain>()
  const changes = new Map<string, Set<string>>()
  const setters = new Map<string, string>()
  const end = (name: string): void => {
    const chain = present.get(name)
    if (chain !== undefined) chain.isOpen = false
    present.delete(name)
  }
  const changed = (key: string, version: string): void => {
    const known = changes.get(key)
    if (known === undefined) changes.set(key, new Set([version]))
    else known.add(version)
  }
  for (const event of events) {
    switch (event.is) {
      case 'connect':
      case 'closed':
        for (const chain of present.values()) if (chain.client === event.client) chain.isOpen = false
        break
      case 'storeAsked':
        if (event.action.is === 'set') setters.set(event.request, event.key)
        // Whether it is still told of something nobody knows.
        if (event.action.is === 'unwatch') end(nameOf(event))
        break
      case 'storeAnswered': {
        const key = setters.get(event.request)
        if (key !== undefined && event.result.is === 'done' && event.result.version !== null) changed(key, event.result.version)
        break
      }
      case 'notified':
        changed(event.key, event.version)
        break
      case 'keptFrom': {
        const chain = { client: event.client, key: event.key, versions: [event.version], isOpen: true }
        chains.push(chain)
        end(nameOf(event))
        present.set(nameOf(event), chain)
        break
      }
      case 'keptOn': {
        const chain = present.get(nameOf(event))
        if (chain !== undefined) chain.isOpen = true
        break
      }
      case 'keptTold':
        present.get(nameOf(event))?.versions.push(event.version)
        changed(event.key, event.version)
        break
      default:
    }
  }
  return [chains, changes]
}

function nameOf({ client, key }: { readonly client: string; readonly key: string }): string {
  return `${client} ${key}`
}
