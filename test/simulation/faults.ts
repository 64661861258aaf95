import type { Pod, SimCluster } from './sim-cluster.ts'

export type FaultName =
  | 'kill'
  | 'pause'
  | 'cutLinks'
  | 'partition'
  | 'slowNetwork'
  | 'redisOutage'
  | 'redisCutOff'
  | 'redisFailover'
  | 'redisSlow'
  | 'drain'
  | 'evict'
  | 'island'
  | 'killInOutage'

/** What may go wrong, each with its end. Durations are mostly short: beside the limits of the cluster, seldom far beyond. */
export const FAULTS: Readonly<Record<FaultName, (cluster: SimCluster) => void>> = {
  kill: cluster => {
    const pod = someRunning(cluster)
    if (pod === null) return
    const ms = duration(cluster, 4_000)
    cluster.note('kill', `kill ${pod.process!.instance} for ${ms} ms`)
    pod.process!.kill()
    cluster.world.after(ms, () => cluster.start(pod))
  },
  pause: cluster => {
    const pod = someRunning(cluster)
    if (pod === null) return
    const { process } = pod
    const ms = duration(cluster, 6_000)
    cluster.note('pause', `${process!.instance} stands still for ${ms} ms`)
    process!.pause()
    cluster.world.after(ms, () => process!.resume())
  },
  cutLinks: cluster => {
    const { random } = cluster.world
    const links = [...cluster.network.links].filter(() => random.chance(0.5))
    cluster.note('cutLinks', `${links.length} links break`)
    for (const link of links) link.break()
  },
  partition: cluster => {
    const { random } = cluster.world
    if (cluster.pods.length < 2) return
    const a = random.pick(cluster.pods).id
    const b = random.pick(cluster.pods.filter(({ id }) => id !== a)).id
    const ms = duration(cluster, 6_000)
    cluster.note('partition', `nothing passes between ${a} and ${b} for ${ms} ms`)
    cluster.network.cut(a, b)
    cluster.world.after(ms, () => cluster.network.heal(a, b))
  },
  slowNetwork: cluster => {
    const { network } = cluster
    const ms = duration(cluster, 2_000)
    const before = network.delayMsMax
    cluster.note('slowNetwork', `new links and frames are slow for ${ms} ms`)
    network.delayMsMax = 200
    cluster.world.after(ms, () => (network.delayMsMax = Math.min(before, 10)))
  },
  redisOutage: cluster => {
    const ms = duration(cluster, 4_000)
    cluster.note('redisOutage', `Redis is out of reach for ${ms} ms`)
    cluster.redis.goDown(ms)
  },
  redisCutOff: cluster => {
    const { id } = cluster.world.random.pick(cluster.pods)
    const ms = duration(cluster, 6_000)
    cluster.note('redisCutOff', `${id} does not reach Redis for ${ms} ms`)
    cluster.redis.cutOff(id)
    cluster.world.after(ms, () => cluster.redis.letIn(id))
  },
  redisFailover: cluster => {
    const ms = duration(cluster, 1_000)
    const { dropped, sinceMs } = cluster.redis.failOver(ms)
    cluster.note('redisFailover', `Redis fails over within ${ms} ms, ${dropped} writes are gone`)
    // At `stored` an answer does not wait for the replica: what the owner cannot write again, because it is dead too, is lost.
    if (cluster.surroundings.level === 'stored' && dropped > 0)
      cluster.history.add({ is: 'mayForget', sinceMs, what: `${dropped} writes at level stored` })
  },
  redisSlow: cluster => {
    const { redis } = cluster
    const ms = duration(cluster, 6_000)
    const before = Math.min(redis.delayMsMax, 10)
    cluster.note('redisSlow', `Redis is slow for ${ms} ms`)
    redis.delayMsMax = cluster.world.random.pick([50, 500, 4_000])
    cluster.world.after(ms, () => (redis.delayMsMax = before))
  },
  drain: cluster => {
    const running = cluster.pods.filter(({ role, process, backend }) => role === 'backend' && backend !== null && process!.isRunning)
    if (running.length < 2) return
    const pod = cluster.world.random.pick(running)
    const process = pod.process!
    const ms = duration(cluster, 2_000)
    cluster.note('drain', `${process.instance} drains`)
    process.onEnd(() => cluster.world.after(ms, () => cluster.start(pod)))
    process.arrive(0, () => void pod.backend!.drain(5_000))
  },
  evict: cluster => {
    const backend = someRunning(cluster, 'backend')
    if (backend === null || (cluster.isDivided && cluster.world.nowMs < cluster.islandFromMs)) return
    const { process, id } = backend
    cluster.note('evict', `${process!.instance} is taken for dead`)
    cluster.redis.evict(id, process!.instance)
    // A frontend that does not hear of its successors goes on with it, and it goes on when it does not hear of them either.
    const frontend = someFrontend(cluster)
    if (frontend === null || !(cluster.isDivided || cluster.world.random.chance(0.5))) return
    const ms = cluster.world.random.int(500, 2_500)
    separate(cluster, frontend, backend, ms)
    separate(cluster, backend, frontend, ms)
    if (!cluster.isDivided) return
    // Nor do they hear of it by the registry, for less than the lease: fencing is all that is left.
    cluster.islandFromMs = cluster.world.nowMs + 2 * ISLAND_PAUSE_MS + ms
    for (const pod of [frontend, backend]) {
      cluster.redis.cutOff(`registry ${pod.id}`)
      cluster.world.after(ms, () => cluster.redis.letIn(`registry ${pod.id}`))
    }
  },
  island: cluster => {
    const [backend, frontend] = [someRunning(cluster, 'backend'), someFrontend(cluster)]
    if (backend === null || frontend === null || cluster.world.nowMs < cluster.islandFromMs) return
    const ms = cluster.world.random.int(2_000, 9_000)
    cluster.islandFromMs = cluster.world.nowMs + ms + ISLAND_PAUSE_MS
    cluster.note('island', `${backend.id} and ${frontend.id} reach each other and nobody else for ${ms} ms`)
    separate(cluster, frontend, backend, ms)
    separate(cluster, backend, frontend, ms)
    for (const { id } of !cluster.isDivided && cluster.world.random.chance(0.5) ? [backend] : [backend, frontend]) {
      cluster.redis.cutOff(id)
      cluster.world.after(ms, () => cluster.redis.letIn(id))
    }
  },
  killInOutage: cluster => {
    const pod = someRunning(cluster, 'backend')
    if (pod === null) return
    const { process } = pod
    const ms = duration(cluster, 500)
    cluster.note('killInOutage', `${process!.instance} does not reach Redis, and is killed after ${ms} ms`)
    cluster.redis.cutOff(pod.id)
    cluster.world.after(ms, () => {
      process!.kill()
      cluster.redis.letIn(pod.id)
    })
    cluster.world.after(ms + duration(cluster, 4_000), () => cluster.start(pod))
  },
}

/** One after the other, and not before there is anything to take over: shards are claimed 1.2 s after the first lease. */
export const ISLAND_PAUSE_MS = 2_000

/** Nothing passes between this one and all other backends but `but`. */
function separate(cluster: SimCluster, { id }: Pod, but: Pod, ms: number): void {
  for (const other of cluster.pods) {
    if (other.id === id || other === but || (other.role === 'frontend' && but.role === 'backend')) continue
    cluster.network.cut(id, other.id)
    cluster.world.after(ms, () => cluster.network.heal(id, other.id))
  }
}

function someRunning(cluster: SimCluster, wanted?: Pod['role']): Pod | null {
  const running = cluster.pods.filter(({ process, role }) => process?.isRunning === true && role === (wanted ?? role))
  return running.length === 0 ? null : cluster.world.random.pick(running)
}

/** The one that the publishers have, when they have one. */
function someFrontend(cluster: SimCluster): Pod | null {
  return cluster.isDivided ? cluster.pods[0]! : someRunning(cluster, 'frontend')
}

/** Whole milliseconds, short ones more often. */
function duration(cluster: SimCluster, msMax: number): number {
  const fraction = cluster.world.random.next()
  return Math.ceil(fraction * fraction * msMax)
}
