import { resourceOrigin } from '#shared/config/resource-origin.ts'
import type { SettingsGroup } from '#shared/config/settings-page.ts'
import type { ResourceSnapshot, ResourceSource } from '#shared/resources/resource-snapshot.ts'
import { SettingsError } from '#shared/config/settings-error.ts'
import type { Log, LogLevel, ProcessLog } from '#shared/telemetry/log.ts'
import { openSource } from './resource-source.ts'

export interface LoadedSettings<S> {
  readonly settings: S
  /** For the log: what was accepted and has no effect, or should be otherwise. */
  readonly warnings: readonly string[]
}

/** Settings of a process that follow its resources: an update that cannot be used is refused as a whole, and what was in force stays. */
export class LiveSettings<S> {
  readonly #source: ResourceSource | null
  readonly #load: (snapshot: ResourceSnapshot | null) => LoadedSettings<S>
  readonly #log: Log
  #settings: S
  #snapshot: ResourceSnapshot | null
  /** Of the update that was refused last, until a later one is taken. */
  #refusal: readonly string[] = []
  #warned = new Set<string>()

  /** @throws {SettingsError} what the process is told cannot be used */
  constructor(source: ResourceSource | null, load: (snapshot: ResourceSnapshot | null) => LoadedSettings<S>, log: Log) {
    this.#source = source
    this.#load = load
    this.#log = log
    this.#snapshot = source?.current ?? null
    const { settings, warnings } = load(this.#snapshot)
    this.#settings = settings
    this.#warn(warnings)
  }

  get settings(): S {
    return this.#settings
  }

  /** Null where the process has no resources. */
  get snapshot(): ResourceSnapshot | null {
    return this.#snapshot
  }

  /** Calls with every later state of both. What it throws is a fault of ours and is logged. */
  listen(onChange: (settings: S, snapshot: ResourceSnapshot) => void): () => void {
    if (this.#source === null) return () => undefined
    return this.#source.listen({
      onSnapshot: snapshot => this.#change(snapshot, onChange),
      onRefused: faults => this.#refuse(faults),
    })
  }

  /** Why what stands in the resources is not what is in force. */
  impaired(): readonly string[] {
    const { impaired = [] } = { impaired: this.#source?.impaired() }
    return [...new Set([...impaired, ...this.#refusal])]
  }

  async stop(): Promise<void> {
    await this.#source?.stop()
  }

  #change(snapshot: ResourceSnapshot, onChange: (settings: S, snapshot: ResourceSnapshot) => void): void {
    let loaded: LoadedSettings<S>
    try {
      loaded = this.#load(snapshot)
    } catch (error) {
      if (!(error instanceof SettingsError)) throw error
      return this.#refuse(error.faults)
    }
    this.#refusal = []
    this.#settings = loaded.settings
    this.#snapshot = snapshot
    this.#warn(loaded.warnings)
    this.#log.info('resources_changed')
    onChange(loaded.settings, snapshot)
  }

  #refuse(faults: readonly string[]): void {
    this.#refusal = faults
    for (const fault of faults) this.#log.error('resources_refused', { fault })
  }

  /** Each once. */
  #warn(warnings: readonly string[]): void {
    for (const detail of warnings) if (!this.#warned.has(detail)) this.#log.warn('setting_without_effect', { detail })
    this.#warned = new Set(warnings)
  }
}

/**
 * Reads the resources that `args` and the environment name, and with them all settings; the log has its level from then on.
 * @param groups every setting that the command takes
 * @throws {SettingsError} every fault of flags, environment and resources
 */
export async function openLiveSettings<S extends { readonly logLevel: LogLevel }>(
  groups: readonly SettingsGroup[],
  args: readonly string[],
  log: ProcessLog,
  load: (snapshot: ResourceSnapshot | null) => LoadedSettings<S>,
): Promise<LiveSettings<S>> {
  const source = await openSource(resourceOrigin(groups, args, process.env), log)
  const live = new LiveSettings(source, load, log)
  log.setLevel(live.settings.logLevel)
  live.listen(({ logLevel }) => log.setLevel(logLevel))
  return live
}
