import { anonymousAuthenticator } from '../../authsvc/anonymous.ts'
import { Frontend } from '../../frontend/frontend.ts'
import { Router } from '../../frontend/routing/router.ts'
import { Membership } from '#shared/cluster/membership.ts'
import { TOPIC_LEVELS_MAX, TopicCache } from '#shared/mqtt/topic.ts'
import { CallerDispatch } from '#shared/rpc/caller-dispatch.ts'
import type { DispatchParts } from '#shared/rpc/dispatch.ts'
import type { Link, LinkHandler } from '#shared/rpc/link.ts'
import { OwnerCalls } from '#shared/rpc/owner-calls.ts'
import { Neighbours } from './neighbours.ts'
import { LIMITS, SILENT_LOG, type Surroundings } from './surroundings.ts'
import { SimRegistry } from './sim-registry.ts'
import type { ClientPort } from './sim-transport.ts'
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
      authenticator: anonymousAuthenticator,
      clock: process.clock,
      random: process.random,
      turn,
      topics,
      log: SILENT_LOG,
    })
    router.bind(frontend)
    steps.push(router.endTurn, frontend.endTurn)
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
    const parts: DispatchParts = { topics, shardCount, levelsMax: TOPIC_LEVELS_MAX, isPeerNewer: false }
    const onOpen = (link: Link): LinkHandler => {
      const calls = mutation.wrapOwner?.(new OwnerCalls(link), process) ?? new OwnerCalls(link)
      const port = router.onLinkOpen(link, calls)
      const dispatch = new CallerDispatch(mutation.wrapCaller?.(port, calls, process) ?? port, parts)
      return {
        onFrame: (method, body) => dispatch.dispatch(method, body),
        onCongestion: isCongested => router.onCongestion(link, isCongested),
        onClosed: () => router.onLinkClosed(link),
      }
    }
    new Neighbours(network, { process, role: 'frontend', id }, membership, onOpen)
    membership.start()
    this.onTransport = transport => frontend.onTransport(transport, 'simulated')
  }

  /** Shards without an owner keep a frontend from becoming ready; one that was goes on, with its clients waiting. */
  get isReady(): boolean {
    this.#wasReady ||= !this.process.isDead && this.router.waitingFor().length === 0
    return this.#wasReady && !this.process.isDead
  }
}
