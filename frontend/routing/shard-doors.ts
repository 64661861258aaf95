import type { Directory } from '#shared/cluster/directory.ts'
import { Shards } from '#shared/rpc/shards.ts'
import type { OwnerLink } from './owner-link.ts'
import type { OpenShards } from './plan.ts'
import { includes } from './publishes.ts'

/** Whether messages for one shard are sent or held. */
export class ShardDoor {
  readonly shard: number
  /** This shard alone. */
  readonly alone = new Shards()
  isOpen = false
  /** Publishes with this number and later ones are held for it, if it is closed. */
  heldFrom = 1
  /** To whom its messages were sent last, and in which of its terms (Directory.termOf). */
  owner: OwnerLink | null = null
  term = 0
  /** Parts that `owner` has not answered and must, before messages go to another owner; 0 while nobody waits for that. */
  gate = 0
  /** What is held for it is being sent. */
  isFlushing = false

  constructor(shard: number) {
    this.shard = shard
    this.alone.add(shard)
  }
}

/**
 *   closed ─fresh, former owner has answered for it→ flushing ─all that was held is sent→ open
 *      └──────────────────────not fresh any more────────┴────────────────────────────────┘
 * Invariants, for the order of each publisher's messages in each shard: at most one owner has unanswered parts for a shard; whatever is
 * held for it goes in the order of publishing, before anything newer.
 */
export class ShardDoors implements OpenShards {
  readonly #doors: readonly ShardDoor[]
  readonly #directory: Directory<OwnerLink>
  /** Fresh and not open: to be looked at at the end of the turn. */
  readonly #candidates = new Set<ShardDoor>()
  #closedCount: number
  #version = 0

  constructor(shardCount: number, directory: Directory<OwnerLink>) {
    this.#directory = directory
    this.#doors = Array.from({ length: shardCount }, (_, shard) => new ShardDoor(shard))
    this.#closedCount = shardCount
  }

  get version(): number {
    return this.#version
  }

  get closedCount(): number {
    return this.#closedCount
  }

  get hasCandidates(): boolean {
    return this.#candidates.size > 0
  }

  openOwner(shard: number): OwnerLink | null {
    const door = this.#doors[shard]!
    return door.isOpen ? door.owner : null
  }

  at(shard: number): ShardDoor {
    return this.#doors[shard]!
  }

  consider(shard: number): void {
    const door = this.#doors[shard]!
    if (!door.isOpen && !door.isFlushing) this.#candidates.add(door)
  }

  /** Not fresh any more: what is published from `nextNumber` on is held. */
  close(shard: number, nextNumber: number): void {
    const door = this.#doors[shard]!
    this.#candidates.delete(door)
    if (!door.isOpen) return
    door.isOpen = false
    door.heldFrom = nextNumber
    this.#closedCount++
    this.#version++
  }

  open(door: ShardDoor): void {
    door.isFlushing = false
    door.isOpen = true
    this.#closedCount--
    this.#version++
  }

  /** Those whose held messages may be sent now, by the link that they go to. Links in `busy` come another time. */
  takeReady(busy: ReadonlyMap<OwnerLink, unknown>): Map<OwnerLink, ShardDoor[]> {
    const ready = new Map<OwnerLink, ShardDoor[]>()
    for (const door of this.#candidates) {
      const owner = this.#directory.isFresh(door.shard) ? this.#directory.ownerOf(door.shard) : null
      if (owner === null) this.#candidates.delete(door)
      else if (!busy.has(owner) && this.#mayMoveTo(door, owner)) {
        this.#candidates.delete(door)
        const others = ready.get(owner)
        if (others === undefined) ready.set(owner, [door])
        else others.push(door)
      }
    }
    return ready
  }

  /** `owner` answered a part for `shards`. Only while it has gates. */
  answered(owner: OwnerLink, shards: Shards): boolean {
    let isDone = false
    for (const door of this.#doors) {
      if (door.gate === 0 || door.owner !== owner || !includes(shards, door.shard)) continue
      door.gate--
      if (door.gate > 0) continue
      owner.gates--
      isDone = true
    }
    return isDone
  }

  /** All of its unanswered parts have come back. */
  linkClosed(owner: OwnerLink): void {
    for (const door of this.#doors) {
      if (door.owner !== owner) continue
      door.owner = null
      door.gate = 0
    }
    owner.gates = 0
  }

  /** Whether `owner` is the one who got the shard's messages so far, or that one has answered all of them. Counts what is missing, once. */
  #mayMoveTo(door: ShardDoor, owner: OwnerLink): boolean {
    if (door.gate > 0) return false
    const former = door.owner
    const term = this.#directory.termOf(door.shard)
    if (former !== null && door.term !== term) {
      door.gate = former.parts.countFor(door.shard)
      if (door.gate > 0) {
        former.gates++
        return false
      }
    }
    door.owner = owner
    door.term = term
    return true
  }
}
