import { createHash } from 'node:crypto'
import { thrownField } from '#shared/base/thrown.ts'
import type { Timers } from '#shared/base/timers.ts'
import type { BrokerAuthenticationSpec } from '#shared/resources/broker-authentication.ts'
import type { Resource, ResourceSnapshot } from '#shared/resources/resource-snapshot.ts'
import type { ResourceRef } from '#shared/rpc/authentication.ts'
import type { Log } from '#shared/telemetry/log.ts'
import { AskedContent, type EntryPlan, makeEntry, type MethodEntry, planEntries, type SharedParts } from './method-entry.ts'
import { MethodFault } from './methods/authentication-method.ts'
import type { MethodMakers } from './methods/makers.ts'

/** For so long after a change the version before it is answered for: frontends do not hear of it all at once. */
export const PREVIOUS_KEPT_MS = 30_000
/** Versions of one resource that are kept so; of more changes than that in the time the oldest goes. */
const PREVIOUS_MAX = 4

export interface AuthenticationsParts {
  readonly makers: MethodMakers
  readonly shared: SharedParts
  readonly timers: Timers
  readonly log: Log
}

/** One version of a BrokerAuthentication. */
interface Version {
  readonly version: string
  /** In their order; empty while there is a fault. */
  entries: readonly MethodEntry[]
  /** Why it cannot be used. */
  fault: string | null
  /** Why the newest content of what it refers to was not taken, the one before it being in force. */
  refused: { readonly text: string; readonly attempt: Attempt } | null
}

/** An attempt to make the methods of a list that came to nothing, and what it found. */
interface Attempt {
  readonly fault: string
  readonly content: readonly AskedContent[]
}

/** All BrokerAuthentications with their methods: the versions in force, and for a while those before them. */
export class Authentications {
  readonly #parts: AuthenticationsParts
  readonly #current = new Map<string, Version>()
  readonly #previous = new Map<string, { readonly kept: Version; readonly cancel: () => void }[]>()

  constructor(parts: AuthenticationsParts) {
    this.#parts = parts
  }

  /** Answers the names of those behind whose document, which is as before, something has changed. */
  apply(snapshot: ResourceSnapshot): readonly string[] {
    for (const name of this.#current.keys()) if (!snapshot.authentications.has(name)) this.#replace(name, null)
    const changed: string[] = []
    for (const [name, resource] of snapshot.authentications) {
      const current = this.#current.get(name)
      if (current?.version !== resource.version) this.#replace(name, this.#makeVersion(resource, snapshot))
      else if (this.#renew(current, resource, snapshot)) changed.push(name)
    }
    return changed
  }

  /** The methods of that very version; `fault` when it cannot be used; null when it is not known. */
  find({ name, version }: ResourceRef): Pick<Version, 'entries' | 'fault'> | null {
    const current = this.#current.get(name)
    if (current?.version === version) return current
    return this.#previous.get(name)?.find(({ kept }) => kept.version === version)?.kept ?? null
  }

  /** Why a BrokerAuthentication cannot be used; null when it can, or is none. */
  faultOf(name: string): string | null {
    return this.#current.get(name)?.fault ?? null
  }

  /** What those refer to is there and cannot be used: where the document stands, and why. What is missing is not told here. */
  *broken(snapshot: ResourceSnapshot): Iterable<{ readonly where: string; readonly name: string; readonly fault: string }> {
    for (const [name, { refused }] of this.#current) {
      if (refused === null || refused.attempt.content.some(each => each.lacksSomething)) continue
      yield { where: snapshot.authentications.get(name)!.where, name, fault: refused.text }
    }
  }

  /** What is wrong: those that cannot be used, and updates that were refused. */
  impaired(): readonly string[] {
    return [...this.#current].flatMap(([name, { fault, refused }]) => {
      if (fault !== null) return [`BrokerAuthentication ${name}: ${fault}`]
      return refused === null ? [] : [`BrokerAuthentication ${name}: ${refused.text}; what it referred to before is in force`]
    })
  }

  /** Digest of what stands behind the document, by name, of those that can be used. */
  *standings(): Iterable<readonly [name: string, digest: string]> {
    for (const [name, { entries, fault }] of this.#current) {
      if (fault !== null) continue
      const hash = createHash('sha256')
      for (const { content } of entries) content.addTo(hash)
      yield [name, hash.digest('hex').slice(0, 16)]
    }
  }

  /** How often the clients of each are to be rechecked, in milliseconds, of those of which a method wants it. */
  *recheckIntervals(): Iterable<readonly [name: string, afterMs: number]> {
    for (const [name, { entries }] of this.#current) {
      const wanted = entries.flatMap(({ method }) => method.recheckAfterMs ?? [])
      if (wanted.length > 0) yield [name, Math.min(...wanted)]
    }
  }

  close(): void {
    for (const name of this.#current.keys()) this.#replace(name, null)
    for (const all of this.#previous.values()) while (all.length > 0) this.#drop(all, all[0]!)
  }

  #makeVersion(resource: Resource<BrokerAuthenticationSpec>, snapshot: ResourceSnapshot): Version {
    const made = this.#make(resource, snapshot)
    if (!('fault' in made)) return { version: resource.version, entries: made, fault: null, refused: null }
    this.#parts.log.error('authentication_unusable', { name: resource.name, where: resource.where, fault: made.fault })
    return { version: resource.version, entries: [], fault: made.fault, refused: { text: made.fault, attempt: made } }
  }

  /** The document is as before. True when what is behind it was replaced. */
  #renew(current: Version, resource: Resource<BrokerAuthenticationSpec>, snapshot: ResourceSnapshot): boolean {
    const { name } = resource
    const known = current.refused?.attempt.content
    if (known === undefined ? current.entries.every(entry => entry.isSameIn(snapshot)) : known.every(each => each.isSameIn(snapshot))) {
      return false
    }
    const made = this.#make(resource, snapshot)
    const { log } = this.#parts
    if (!('fault' in made)) return this.#take(current, name, made)
    // What is broken is refused as a whole and the old one stays; what is gone was taken away, and nobody is let in by it any more.
    const isGone = made.content.some(each => each.lacksSomething) && !current.entries.some(({ content }) => content.lacksSomething)
    const stays = current.fault === null && !isGone
    log.error(stays ? 'authentication_update_refused' : 'authentication_unusable', { name, where: resource.where, fault: made.fault })
    current.refused = { text: made.fault, attempt: made }
    if (stays) return false
    current.fault = made.fault
    this.#release(current)
    return true
  }

  #take(current: Version, name: string, entries: readonly MethodEntry[]): boolean {
    const before = current.entries
    const isSame = current.fault === null && before.length === entries.length && before.every((entry, index) => entry === entries[index])
    current.entries = entries
    current.fault = null
    current.refused = null
    for (const entry of before) entry.release()
    if (!isSame) this.#parts.log.info('authentication_renewed', { name })
    return !isSame
  }

  /** The methods in their order, of those that there are already what has not changed; or why there are none. */
  #make({ name, spec }: Resource<BrokerAuthenticationSpec>, snapshot: ResourceSnapshot): readonly MethodEntry[] | Attempt {
    const reusable = [this.#current.get(name), ...(this.#previous.get(name) ?? []).map(({ kept }) => kept)].flatMap(
      version => version?.entries ?? [],
    )
    const entries: MethodEntry[] = []
    const content: AskedContent[] = []
    const faults: string[] = []
    // All of them, whatever the first ones came to: what each asks for decides when to try again.
    for (const [index, plan] of planEntries(spec.authenticationMethods).entries()) {
      const known = reusable.find(entry => entry.isWhat(plan, snapshot))
      known?.retain()
      const asked = known?.content ?? new AskedContent()
      content.push(asked)
      try {
        entries.push(known ?? this.#makeEntry(plan, snapshot, asked))
      } catch (error) {
        faults.push(`authenticationMethods[${index}] (${plan.spec.method}): ${this.#faultText(error)}`)
      }
    }
    if (faults.length === 0) return entries
    for (const entry of entries) entry.release()
    return { fault: faults.join('; '), content }
  }

  #makeEntry(plan: EntryPlan, snapshot: ResourceSnapshot, asked: AskedContent): MethodEntry {
    return makeEntry(plan, this.#parts.makers[plan.spec.method], snapshot, this.#parts.shared, asked)
  }

  /** Only a MethodFault was written to be read; anything else is a fault of ours, and in the log. */
  #faultText(error: unknown): string {
    if (error instanceof MethodFault) return error.message
    this.#parts.log.error('authentication_method_failed', { error: thrownField(error) })
    return 'it could not be made, see the log'
  }

  #replace(name: string, next: Version | null): void {
    const before = this.#current.get(name)
    if (next === null) this.#current.delete(name)
    else this.#current.set(name, next)
    if (before === undefined || before.fault !== null) return
    this.#keep(name, before)
  }

  #keep(name: string, before: Version): void {
    const all = this.#previous.get(name) ?? []
    this.#previous.set(name, all)
    const again = all.find(({ kept }) => kept.version === before.version)
    if (again !== undefined) this.#drop(all, again)
    const each = { kept: before, cancel: this.#parts.timers.after(PREVIOUS_KEPT_MS, () => this.#drop(all, each)) }
    all.push(each)
    if (all.length > PREVIOUS_MAX) this.#drop(all, all[0]!)
  }

  #drop(
    all: { readonly kept: Version; readonly cancel: () => void }[],
    each: { readonly kept: Version; readonly cancel: () => void },
  ): void {
    const at = all.indexOf(each)
    if (at === -1) return
    all.splice(at, 1)
    each.cancel()
    this.#release(each.kept)
  }

  #release(version: Version): void {
    const { entries } = version
    version.entries = []
    for (const entry of entries) entry.release()
  }
}
