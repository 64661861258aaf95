import { type Fractions, systemRandom } from '../base/random.ts'
import { systemTimers, type Timers } from '../base/timers.ts'
import { API_VERSION } from '../resources/api-group.ts'
import type { ResourceSnapshot } from '../resources/resource-snapshot.ts'
import type { Log } from '../telemetry/log.ts'
import { type ApiAnswer, refusalText } from './api-requests.ts'
import { Backoff } from './backoff.ts'
import { certificatePatch, isOurs, newCertificate, type WantedCertificate, wantedCertificates } from './certificate-object.ts'
import { KubernetesUnavailable } from './kubernetes-access.ts'
import { type KubernetesObject, readObject } from './kubernetes-object.ts'
import type { KubernetesConnection } from './open-kubernetes.ts'

const LISTENERS = `apis/${API_VERSION}`
const CERTIFICATE = { apiVersion: 'cert-manager.io/v1', kind: 'Certificate' }
const LISTENER = { apiVersion: API_VERSION, kind: 'BrokerListener' }
/** Writers at one time: every frontend keeps the same certificates. */
const CONFLICTS_MAX = 5
/** Somebody may change or delete a Certificate; nobody watches them, they are looked at so often. */
const LOOK_EVERY_MS = 10 * 60_000

export interface CertificateKeeperOptions {
  readonly connection: KubernetesConnection
  readonly log: Log
  readonly timers?: Timers
  readonly random?: Fractions
}

/**
 * Sees to it that cert-manager has a Certificate for each port whose certificate is automatic. The Secret that it fills is read like one that
 * somebody made by hand. Works in the background; with the API server away, or cert-manager absent, it tries again, and the port
 * stays closed for as long as its Secret is not there.
 */
export class CertificateKeeper {
  readonly #connection: KubernetesConnection
  readonly #log: Log
  readonly #timers: Timers
  readonly #backoff: Backoff
  #wanted: ResourceSnapshot['listeners'] | null = null
  #listeners: ResourceSnapshot['listeners'] = new Map()
  #isRunning = false
  #isStopped = false
  #trouble: string | null = null
  #foreign: readonly string[] = []
  #cancelLook: (() => void) | null = null

  constructor({ connection, log, timers = systemTimers, random = systemRandom }: CertificateKeeperOptions) {
    this.#connection = connection
    this.#log = log
    this.#timers = timers
    this.#backoff = new Backoff(timers, random)
  }

  /** The listeners of the newest snapshot; repeats cost a look at each Certificate. */
  keep(listeners: ResourceSnapshot['listeners']): void {
    this.#wanted = listeners
    this.#listeners = listeners
    this.#cancelLook?.()
    this.#cancelLook = null
    if (this.#isRunning) this.#backoff.wake()
    else if (!this.#isStopped) void this.#run()
  }

  /** What is in the way of certificates, for `/readyz`. */
  impaired(): readonly string[] {
    return this.#trouble === null ? this.#foreign : [...this.#foreign, this.#trouble]
  }

  stop(): void {
    this.#isStopped = true
    this.#cancelLook?.()
    this.#backoff.stop()
  }

  async #run(): Promise<void> {
    this.#isRunning = true
    while (this.#wanted !== null && !this.#isStopped) {
      const listeners = this.#wanted
      this.#wanted = null
      try {
        await this.#keepAll(listeners)
        this.#trouble = null
        this.#backoff.reset()
      } catch (error) {
        if (!(error instanceof KubernetesUnavailable)) throw error
        if (this.#trouble !== error.message) this.#log.warn('kubernetes_certificate_not_kept', { fault: error.message })
        this.#trouble = error.message
        await this.#backoff.pause()
        this.#wanted ??= listeners
      }
    }
    this.#isRunning = false
    if (!this.#isStopped) this.#cancelLook = this.#timers.after(LOOK_EVERY_MS, () => this.keep(this.#listeners))
  }

  async #keepAll(listeners: ResourceSnapshot['listeners']): Promise<void> {
    const foreign: string[] = []
    for (const { name, spec } of listeners.values()) {
      const certificates = wantedCertificates(name, spec, this.#connection.namespace)
      if (certificates.length === 0) continue
      const owner = await this.#get('brokerlisteners', name, LISTENERS, LISTENER)
      // Deleted meanwhile, or a listener of a file: then there is nothing that the Certificate could belong to.
      if (owner === null) continue
      for (const certificate of certificates) if (!(await this.#keepOne(certificate, owner))) foreign.push(certificate.name)
    }
    this.#foreign = foreign.map(name => `Certificate ${name} was made by somebody else and is left as it is`)
  }

  /** @returns false: there is one, and it is not ours. @throws {KubernetesUnavailable} */
  async #keepOne(wanted: WantedCertificate, owner: KubernetesObject): Promise<boolean> {
    for (let attempt = 0; ; attempt++) {
      const present = await this.#get('certificates', wanted.name, `apis/${CERTIFICATE.apiVersion}`, CERTIFICATE)
      if (present !== null && !isOurs(present)) return false
      const spec = present === null ? null : certificatePatch(present, wanted)
      if (present !== null && spec === null) return true
      const collection = this.#pathOf('certificates', `apis/${CERTIFICATE.apiVersion}`)
      const answer =
        present === null
          ? await this.#connection.requests.send({ method: 'POST', path: collection, body: newCertificate(wanted, owner) })
          : await this.#connection.requests.send({
              method: 'PATCH',
              path: `${collection}/${wanted.name}`,
              body: { metadata: { resourceVersion: present.metadata.resourceVersion }, spec },
              contentType: 'application/merge-patch+json',
            })
      if (answer.status === 200 || answer.status === 201) return true
      // Another process was there first: what it wrote is what we want, or is changed in the next round.
      if (answer.status !== 409 || attempt === CONFLICTS_MAX) throw refused(present === null ? 'create' : 'patch', wanted.name, answer)
    }
  }

  async #get(resource: string, name: string, base: string, kind: typeof CERTIFICATE): Promise<KubernetesObject | null> {
    const answer = await this.#connection.requests.send({ method: 'GET', path: `${this.#pathOf(resource, base)}/${name}` })
    if (answer.status === 404) return null
    if (answer.status !== 200) throw refused('get', `${resource} ${name}`, answer)
    return readObject(answer.body, kind)
  }

  #pathOf(resource: string, base: string): string {
    return `/${base}/namespaces/${this.#connection.namespace}/${resource}`
  }
}

function refused(verb: string, what: string, answer: ApiAnswer): KubernetesUnavailable {
  return new KubernetesUnavailable(`Kubernetes API: cannot ${verb} Certificate ${what}: ${refusalText(answer)}`)
}
