import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach } from 'vitest'
import { freePorts } from '#shared/testing/free-ports.ts'
import type { Endpoint } from './cluster-process.ts'

/** A Debian package puts it where not every user looks. */
const HAPROXY = ['/usr/sbin/haproxy', '/usr/local/sbin/haproxy'].find(existsSync) ?? 'haproxy'
const CONFIGURATION = join(import.meta.dirname, '../../deploy/haproxy/haproxy.cfg')
const POLL_MS = 20

/** A frontend as the balancer knows it. `mqtt` and `ws` are passed through, so their TLS siblings may stand there. */
export type BalancedFrontend = Readonly<Record<'mqtt' | 'ws' | 'metrics', Endpoint>>

/** HAProxy as deploy/ has it. */
export class LoadBalancer {
  readonly mqtt: number
  readonly ws: number
  readonly #stats: number

  constructor([mqtt, ws, stats]: readonly number[]) {
    this.mqtt = mqtt!
    this.ws = ws!
    this.#stats = stats!
  }

  spawn(frontends: readonly BalancedFrontend[]): ChildProcess {
    const addresses = frontends.flatMap(({ mqtt, ws, metrics }, index) => [
      [`MILLRACE_FRONTEND_${index + 1}_MQTT`, textOf(mqtt)],
      [`MILLRACE_FRONTEND_${index + 1}_WS`, textOf(ws)],
      [`MILLRACE_FRONTEND_${index + 1}_METRICS`, textOf(metrics)],
    ])
    const env = {
      ...process.env,
      ...(Object.fromEntries(addresses) as Record<string, string>),
      MILLRACE_LB_MQTT: `127.0.0.1:${this.mqtt}`,
      MILLRACE_LB_WS: `127.0.0.1:${this.ws}`,
      MILLRACE_LB_STATS: `127.0.0.1:${this.#stats}`,
    }
    return spawn(HAPROXY, ['-db', '-f', CONFIGURATION], { stdio: 'ignore', env })
  }

  /** Whether frontend `index` gets connections at both ports. */
  async isUp(index: number): Promise<boolean> {
    const states = await this.#states()
    return ['mqtt', 'ws'].every(proxy => states.includes(stateLine(proxy, index, 'UP')))
  }

  async isDown(index: number): Promise<boolean> {
    return (await this.#states()).includes(stateLine('ws', index, 'DOWN'))
  }

  async #states(): Promise<string> {
    return fetch(`http://127.0.0.1:${this.#stats}/metrics`)
      .then(response => response.text())
      .catch(() => '')
  }
}

function textOf({ host, port }: Endpoint): string {
  return `${host}:${port}`
}

function stateLine(proxy: string, index: number, state: 'UP' | 'DOWN'): string {
  return `haproxy_server_status{proxy="${proxy}",server="frontend${index + 1}",state="${state}"} 1`
}

type Stop = () => Promise<void>
const ofTest: Stop[] = []
const ofFile: Stop[] = []
afterEach(() => end(ofTest))
afterAll(() => end(ofFile))

async function end(stops: Stop[]): Promise<void> {
  await Promise.all(stops.splice(0).map(stop => stop()))
}

async function start(stops: Stop[], frontends: readonly BalancedFrontend[]): Promise<LoadBalancer> {
  const balancer = new LoadBalancer(await freePorts(3))
  const child = balancer.spawn(frontends)
  const ended = once(child, 'close')
  stops.push(async () => {
    child.kill('SIGKILL')
    await ended
  })
  for (const index of frontends.keys()) {
    while (!(await balancer.isUp(index))) {
      if (child.exitCode !== null) throw new Error(`haproxy ended with ${child.exitCode}`)
      await sleep(POLL_MS)
    }
  }
  return balancer
}

/** HAProxy that has found `frontends` ready, for the test that calls this. */
export async function startLoadBalancer(frontends: readonly BalancedFrontend[]): Promise<LoadBalancer> {
  return start(ofTest, frontends)
}

/** One for all tests of the file. */
export async function startLoadBalancerForFile(frontends: readonly BalancedFrontend[]): Promise<LoadBalancer> {
  return start(ofFile, frontends)
}
