import type { ResourceSnapshot, ResourceSource, ResourceStatus } from '../resources/resource-snapshot.ts'
import type { CertificateKeeper } from '../kubernetes/certificate-keeper.ts'
import type { Log } from '../telemetry/log.ts'
import type { Kubernetes } from '../kubernetes/kubernetes.ts'
import { keepCertificates } from '../resources/open-source.ts'
import { SettingsError } from './settings-error.ts'

export interface LoadedSettings<S> {
  readonly settings: S
  /** For the log: what was accepted and has no effect, or should be otherwise. */
  readonly warnings: readonly string[]
}

/** Told of the newest state, and of the resources before it. */
type OnChange<S> = (settings: S, snapshot: ResourceSnapshot, before: ResourceSnapshot | null) => void

/** Lines about one state of the resources: a file of another kind has a fault in each of its lines. */
const FAULTS_TOLD_MAX = 100

/** Settings of a process that follow its resources: an update that cannot be used is refused as a whole, and what was in force stays. */
export class LiveSettings<S> {
  /** The API server of this process. */
  readonly kubernetes: Kubernetes
  readonly #source: ResourceSource | null
  readonly #load: (snapshot: ResourceSnapshot | null) => LoadedSettings<S>
  readonly #log: Log
  #certificates: CertificateKeeper | null = null
  #settings: S
  #snapshot: ResourceSnapshot | null
  /** Why the newest snapshot was not taken: its resources are sound, and this process cannot do what they say. */
  #refusal: readonly string[] = []
  #warned = new Set<string>()
  readonly #listeners = new Set<OnChange<S>>()

  /** @throws {SettingsError} what the process is told cannot be used */
  constructor(
    kubernetes: Kubernetes,
    source: ResourceSource | null,
    load: (snapshot: ResourceSnapshot | null) => LoadedSettings<S>,
    log: Log,
  ) {
    this.kubernetes = kubernetes
    this.#source = source
    this.#load = load
    this.#log = log
    this.#snapshot = source?.current ?? null
    const { settings, warnings } = load(this.#snapshot)
    this.#settings = settings
    this.#warn(warnings)
    source?.listen({ onSnapshot: changed => this.#change(changed), onRefused: faults => this.#tell(faults) })
  }

  get settings(): S {
    return this.#settings
  }

  /** Null where the process has no resources. */
  get snapshot(): ResourceSnapshot | null {
    return this.#snapshot
  }

  /** Calls with every later state of both, in the order of listening. */
  listen(onChange: OnChange<S>): void {
    this.#listeners.add(onChange)
  }

  /** Why what stands in the resources is not what is in force. */
  impaired(): readonly string[] {
    return [...new Set([...(this.#source?.impaired() ?? []), ...this.#refusal, ...(this.#certificates?.impaired() ?? [])])]
  }

  /** Says in the status of a resource how it is; elsewhere than in Kubernetes nobody reads it. */
  report(status: ResourceStatus): void {
    this.#source?.report(status)
  }

  /** Has cert-manager asked for the certificates of listeners, where this process is in Kubernetes. */
  async keepCertificates(): Promise<void> {
    if (this.#source !== null) this.#certificates = await keepCertificates(this.#source, this.kubernetes, this.#log)
  }

  async stop(): Promise<void> {
    this.#certificates?.stop()
    await this.#source?.stop()
    await this.kubernetes.close()
  }

  #change(snapshot: ResourceSnapshot): void {
    const before = this.#snapshot
    let loaded: LoadedSettings<S>
    try {
      loaded = this.#load(snapshot)
    } catch (error) {
      if (!(error instanceof SettingsError)) throw error
      this.#refusal = error.faults
      return this.#tell(error.faults)
    }
    this.#refusal = []
    this.#settings = loaded.settings
    this.#snapshot = snapshot
    this.#warn(loaded.warnings)
    this.#log.info('resources_changed')
    for (const onChange of this.#listeners) onChange(loaded.settings, snapshot, before)
  }

  #tell(faults: readonly string[]): void {
    for (const fault of faults.slice(0, FAULTS_TOLD_MAX)) this.#log.error('resources_refused', { fault })
    const untold = faults.length - FAULTS_TOLD_MAX
    if (untold > 0) this.#log.error('resources_refused', { fault: `and ${untold} more` })
  }

  /** Each once. */
  #warn(warnings: readonly string[]): void {
    for (const detail of warnings) if (!this.#warned.has(detail)) this.#log.warn('setting_without_effect', { detail })
    this.#warned = new Set(warnings)
  }
}
