import { setTimeout as sleep } from 'node:timers/promises'
import { type RedisServer, startRedis, startSentinel, until } from '#shared/testing/redis-server.ts'

const FAILOVER_TIMEOUT_MS = 30_000
/** What is left to Redis when it is said to be full. */
const SPARE_BYTES = 64 * 1024

/** A primary, its replica and a Sentinel; the two servers change places when the primary fails. */
export class RedisTrio {
  readonly #servers: readonly [RedisServer, RedisServer]
  readonly #sentinel: RedisServer

  private constructor(servers: readonly [RedisServer, RedisServer], sentinel: RedisServer) {
    this.#servers = servers
    this.#sentinel = sentinel
  }

  /** @param failoverTimeoutMs after a failover the Sentinel waits for twice as long before it begins another */
  static async start(failoverTimeoutMs = 3_000): Promise<RedisTrio> {
    const primary = await startRedis()
    const replica = await startRedis({ replicaOf: primary })
    await primary.replicasInStep(1)
    const sentinel = await startSentinel(primary)
    await sentinel.command('SENTINEL', 'SET', 'mymaster', 'failover-timeout', failoverTimeoutMs)
    const trio = new RedisTrio([primary, replica], sentinel)
    await until(async () => {
      const fields = (await sentinel.command('SENTINEL', 'REPLICAS', 'mymaster')) as unknown[]
      return fields.length === 1
    }, 'the Sentinel knows the replica')
    return trio
  }

  get url(): string {
    return `redis+sentinel://127.0.0.1:${this.#sentinel.port}/mymaster`
  }

  /** The one that the Sentinel names, and the other. */
  async places(): Promise<{ readonly primary: RedisServer; readonly other: RedisServer }> {
    const [, port] = (await this.#sentinel.command('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'mymaster')) as [string, string]
    const [one, two] = this.#servers
    return Number(port) === one.port ? { primary: one, other: two } : { primary: two, other: one }
  }

  /** A failover may only follow when the replica has everything: else it is the test that loses data. */
  async inStep(): Promise<void> {
    await until(
      async () => {
        const { primary, other } = await this.places()
        if ((await other.info('role')) !== 'slave' || (await primary.info('role')) !== 'master') return false
        return (await other.info('master_port')) === `${primary.port}` && (await other.info('master_link_status')) === 'up'
      },
      'the replica follows',
      FAILOVER_TIMEOUT_MS,
    )
    await (await this.places()).primary.replicasInStep(1)
  }

  /** SIGKILL of the primary, then `onFault`; the dead one comes back, as a replica, some time after the failover. */
  async killPrimary(absentMs: number, onFault: () => void = () => undefined): Promise<string> {
    const { primary, other } = await this.#lose(server => server.kill(), onFault)
    await sleep(absentMs)
    await primary.start()
    // As a pod does that asks the Sentinel who it is before it serves; by itself the Sentinel would take ten seconds to tell it.
    await primary.command('REPLICAOF', '127.0.0.1', other.port)
    return `Redis on port ${primary.port}, then ${other.port} was the primary`
  }

  /**
   * SIGSTOP of the primary, then `onFault`; some time after the other has its place SIGCONT: it believes for a moment that it still is the primary.
   * @param believesMs until it is told better; null: when the Sentinel does, which takes ten seconds
   */
  async stopPrimary(staleMs: number, onFault: () => void = () => undefined, believesMs: number | null = null): Promise<string> {
    const { primary, other } = await this.#lose(server => server.pause(), onFault)
    await sleep(staleMs)
    primary.resume()
    if (believesMs !== null) {
      await sleep(believesMs)
      await primary.command('REPLICAOF', '127.0.0.1', other.port)
    }
    // Until then nothing is replicated, and at level replicated nothing acknowledged.
    await this.inStep()
    return `Redis on port ${primary.port}, then ${other.port} was the primary`
  }

  async #lose(
    fault: (server: RedisServer) => Promise<void> | void,
    onFault: () => void,
  ): Promise<{ primary: RedisServer; other: RedisServer }> {
    await this.inStep()
    const before = await this.places()
    await fault(before.primary)
    onFault()
    await until(async () => (await this.places()).primary === before.other, 'the Sentinel has failed over', FAILOVER_TIMEOUT_MS)
    return before
  }

  /** Redis takes no more than a little beyond what it holds, for a while. */
  async fill(lastsMs: number): Promise<string> {
    const { primary } = await this.places()
    const used = Number(await primary.info('used_memory'))
    await primary.command('CONFIG', 'SET', 'maxmemory', used + SPARE_BYTES)
    await sleep(lastsMs)
    await primary.command('CONFIG', 'SET', 'maxmemory', 0)
    return `Redis on port ${primary.port} at ${used} bytes`
  }

  async close(): Promise<void> {
    for (const server of [this.#sentinel, ...this.#servers]) {
      server.resume()
      await server.dispose()
    }
  }
}
