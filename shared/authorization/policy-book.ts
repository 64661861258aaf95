import type { Clock } from '#shared/base/clock.ts'
import type { BrokerAuthorizationSpec } from '#shared/resources/broker-authorization.ts'
import type { Resource, ResourceVersion } from '#shared/resources/resource-snapshot.ts'
import { compilePolicy, type Policy } from './policy.ts'

/** Versions of one name that are kept behind the present one; when policies change faster, the oldest goes before its time. */
export const PREVIOUS_MAX = 8

interface Edition {
  readonly version: ResourceVersion
  readonly policy: Policy
  /** When another version took its place; Infinity for the present one. */
  replacedMs: number
}

/** The BrokerAuthorizations of the newest snapshot as policies, and for a time those before them. Compiles what is new alone. */
export class PolicyBook {
  readonly #clock: Clock
  readonly #keepMs: number
  /** By name, newest first. */
  #editions = new Map<string, readonly Edition[]>()

  /** @param keepMs how long a version may still be asked for after another has taken its place */
  constructor(options: { readonly clock: Clock; readonly keepMs: number }) {
    this.#clock = options.clock
    this.#keepMs = options.keepMs
  }

  /** Takes `authorizations` of a ResourceSnapshot as what is in force from now on. */
  update(authorizations: ReadonlyMap<string, Resource<BrokerAuthorizationSpec>>): void {
    const nowMs = this.#clock.monotonicMs()
    const next = new Map<string, readonly Edition[]>()
    for (const name of new Set([...authorizations.keys(), ...this.#editions.keys()])) {
      const editions = this.#next(authorizations.get(name), this.#editions.get(name) ?? [], nowMs)
      if (editions.length > 0) next.set(name, editions)
    }
    this.#editions = next
  }

  /** What is in force under this name; null: nothing. */
  current(name: string): Policy | null {
    const newest = this.#editions.get(name)?.[0]
    return newest?.replacedMs === Infinity ? newest.policy : null
  }

  /** That version, when it is in force or was so a short time ago. */
  find({ name, version }: { readonly name: string; readonly version: ResourceVersion }): Policy | null {
    const edition = this.#editions.get(name)?.find(known => known.version === version)
    return edition !== undefined && this.#isKept(edition, this.#clock.monotonicMs()) ? edition.policy : null
  }

  #isKept(edition: Edition, nowMs: number): boolean {
    return nowMs - edition.replacedMs < this.#keepMs
  }

  #next(resource: Resource<BrokerAuthorizationSpec> | undefined, known: readonly Edition[], nowMs: number): readonly Edition[] {
    for (const edition of known) if (edition.version !== resource?.version) edition.replacedMs = Math.min(edition.replacedMs, nowMs)
    const previous = known.filter(edition => edition.version !== resource?.version && this.#isKept(edition, nowMs)).slice(0, PREVIOUS_MAX)
    if (resource === undefined) return previous
    const same = known.find(edition => edition.version === resource.version)
    const policy = same?.policy ?? compilePolicy(resource.name, resource.spec.authorizationPolicies)
    return [{ version: resource.version, policy, replacedMs: Infinity }, ...previous]
  }
}
