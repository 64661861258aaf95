import { ClientPort as FrontendPort } from '../../frontend/client-port.ts'
import { Frontend } from '../../frontend/frontend.ts'
import { Router } from '../../frontend/routing/router.ts'
import { noAuthentication } from '#shared/rpc/no-authentication.ts'
import { OPEN_TO_ALL } from '#shared/rpc/port-rules.ts'
import { Membership } from '#shared/cluster/membership.ts'
import { TOPIC_LEVELS_MAX, TopicCache } from '#shared/mqtt/topic.ts'
import { BackendDialers, type OwnerCaller } from '#shared/cluster/backend-dialers.ts'
import type { Mutation } from './mutations.ts'
import { simDialers } from './sim-dialer.ts'
import { SimRegistry } from './sim-registry.ts'
import type { ClientPort } from './sim-transport.ts'
import { LIMITS, SILENT_LOG, type Surroundings } from './surroundings.ts'
import type { SimProcess } from './world.ts'

const TICK_MS = 100

/** One run of a frontend process: the real core and the real Router on the simulated network. */
export class SimFrontend implements ClientPort {
  readonly process: SimProcess
  readonly onTransport: ClientPort['onTransport']
  readonly router: Router
  #wasReady = false

  constructor(surroundings: Surroundings, process: SimProcess, id: string) {
    const { shardCount, network, redis, mutation } = surroundings
    this.process = process
    const steps: (() => void)[] = []
    const turn = process.turn(steps)
    const topics = new TopicCache({ topicsMax: 1_000, levelsMax: TOPIC_LEVELS_MAX })
    const router = new Router({ shardCount, clock: process.clock, turn, log: SILENT_LOG })
    this.router = router
    const frontend = new Frontend({
      settings: LIMITS,
      backend: router,
      authentication: noAuthentication,
      clock: process.clock,
      random: process.random,
      turn,
      topics,
      log: SILENT_LOG,
      holdsPublishesForSubscribe: true,
    })
    router.bind(frontend)
    steps.push(frontend.endTurn, router.endTurn)
    process.every(TICK_MS, () => {
      router.tick()
      frontend.deadlines.tick()
    })
    const membership = new Membership({
      self: { role: 'frontend', id, instance: process.instance, address: '' },
      registry: new SimRegistry(redis, process),
      timers: process.timers,
      log: SILENT_LOG,
    })
    new BackendDialers({
      membership,
      dialerTo: simDialers(network, { process, role: 'frontend', id }),
      topics,
      topicLevelsMax: TOPIC_LEVELS_MAX,
      shardCount,
      caller: mutated(router, mutation, process),
      log: SILENT_LOG,
    })
    membership.start()
    this.onTransport = transport => frontend.onTransport(transport, new FrontendPort('simulated', OPEN_TO_ALL))
  }

  get figures(): [string, number][] {
    const { publishesHeld, publishesResent, sessionsResumed } = this.router.counters
    return [
      ['publishes held', publishesHeld],
      ['sent again', publishesResent],
      ['sessions resumed', sessionsResumed],
    ]
  }

  /** Shards without an owner keep a frontend from becoming ready; one that was goes on, with its clients waiting. */
  get isReady(): boolean {
    this.#wasReady ||= !this.process.isDead && this.router.waitingFor().length === 0
    return this.#wasReady && !this.process.isDead
  }
}

/** The router, with whatever is broken on purpose between it and the backends. */
function mutated(router: Router, mutation: Mutation, process: SimProcess): OwnerCaller {
  return {
    onLinkOpen: (link, calls) => {
      const own = mutation.wrapOwner?.(calls, process) ?? calls
      const port = router.onLinkOpen(link, own)
      return mutation.wrapCaller?.(port, own, process) ?? port
    },
    onLinkClosed: link => router.onLinkClosed(link),
    onCongestion: (link, isCongested) => router.onCongestion(link, isCongested),
  }
}
