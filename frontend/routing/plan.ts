import type { ResolvedRoute, RouteTable, RouteTargets } from '#shared/cluster/route-table.ts'
import { shardOf } from '#shared/cluster/shard.ts'
import type { Message } from '#shared/mqtt/message.ts'
import { Shards } from '#shared/rpc/shards.ts'
import type { OwnerLink } from './owner-link.ts'

/** To whom a message goes at once: `shards[i]` over `owners[i]`; and the shards with a route for it that are not open. */
export class Plan {
  readonly version: number
  readonly owners: OwnerLink[] = []
  readonly shards: Shards[] = []
  readonly closed: number[] = []

  constructor(version: number) {
    this.version = version
  }

  add(shard: number, owner: OwnerLink | null): void {
    if (owner === null) {
      this.closed.push(shard)
      return
    }
    let at = this.owners.indexOf(owner)
    if (at === -1) {
      at = this.owners.push(owner) - 1
      this.shards.push(new Shards())
    }
    this.shards[at]!.add(shard)
  }
}

/** What Topic.resolved remembers in a frontend of a cluster. */
class TopicPlan {
  /** Whose it is: processes that run several frontends may share a TopicCache. */
  readonly by: Plans
  readonly route: ResolvedRoute
  plan: Plan
  /** With the shard of the topic's Retained Message; made with the first message that needs it. */
  retained: Plan | null = null

  constructor(by: Plans, route: ResolvedRoute, plan: Plan) {
    this.by = by
    this.route = route
    this.plan = plan
  }
}

/** The shards that take messages now. */
export interface OpenShards {
  /** Over which link; null while it is closed. */
  openOwner(shard: number): OwnerLink | null
  /** Another number after every change. */
  readonly version: number
}

/** Message → Plan: remembered in its Topic, and shared by topics with the same shards. */
export class Plans {
  readonly #routes: RouteTable
  readonly #shardCount: number
  readonly #open: OpenShards

  constructor(parts: { routes: RouteTable; shardCount: number; open: OpenShards }) {
    this.#routes = parts.routes
    this.#shardCount = parts.shardCount
    this.#open = parts.open
  }

  of(message: Message): Plan {
    const known = message.topic.resolved
    const topicPlan = known instanceof TopicPlan && known.by === this && known.route.isCurrent ? known : this.#resolve(message)
    if (message.retain) return this.#retained(topicPlan, message)
    if (topicPlan.plan.version !== this.#open.version) topicPlan.plan = this.#planFor(topicPlan.route.targets)
    return topicPlan.plan
  }

  /** Whether `message` concerns `shard`: a route matches, or the shard keeps the Retained Message. */
  concerns(message: Message, shard: number): boolean {
    const known = message.topic.resolved
    const topicPlan = known instanceof TopicPlan && known.by === this && known.route.isCurrent ? known : this.#resolve(message)
    const { targets } = topicPlan.route
    return targets.has(shard) || (message.retain && shardOf(message.topic.name, this.#shardCount) === shard)
  }

  #resolve(message: Message): TopicPlan {
    const route = this.#routes.resolve(message.topic.name)
    const topicPlan = new TopicPlan(this, route, this.#planFor(route.targets))
    message.topic.resolved = topicPlan
    return topicPlan
  }

  #planFor(targets: RouteTargets): Plan {
    const known = targets.remembered
    if (known instanceof Plan && known.version === this.#open.version) return known
    const plan = this.#make(targets, null)
    targets.remembered = plan
    return plan
  }

  #retained(topicPlan: TopicPlan, message: Message): Plan {
    const known = topicPlan.retained
    if (known !== null && known.version === this.#open.version) return known
    topicPlan.retained = this.#make(topicPlan.route.targets, shardOf(message.topic.name, this.#shardCount))
    return topicPlan.retained
  }

  #make(targets: RouteTargets, another: number | null): Plan {
    const plan = new Plan(this.#open.version)
    for (const shard of targets.shards) plan.add(shard, this.#open.openOwner(shard))
    if (another !== null && !targets.has(another)) plan.add(another, this.#open.openOwner(another))
    return plan
  }
}
