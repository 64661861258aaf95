import type { BrokerSpec } from './broker.ts'
import type { BrokerAuthenticationSpec } from './broker-authentication.ts'
import type { BrokerAuthorizationSpec } from './broker-authorization.ts'
import type { BrokerListenerSpec } from './broker-listener.ts'

/**
 * Says what a resource is, not when it was: the same for the same `spec` in every process, another for another. 16 hexadecimal
 * digits of a hash.
 */
export type ResourceVersion = string

/** A resource that was read without a fault. */
export interface Resource<Spec> {
  readonly name: string
  readonly spec: Spec
  readonly version: ResourceVersion
  /** `file:line`, or `namespace/name` in Kubernetes. */
  readonly where: string
}

/** A resource that cannot be used: an older version of it, or none, is in force. */
export interface ResourceFault {
  readonly kind: string
  readonly name: string
  /** `file:line: field: message` each. */
  readonly faults: readonly string[]
}

/** All resources at one moment. Nothing in it ever changes: a change is another snapshot. */
export interface ResourceSnapshot {
  /** Values of settings, by name, that the Broker resource gives; empty without one. */
  readonly values: ReadonlyMap<string, unknown>
  /** Null without one. */
  readonly broker: Resource<BrokerSpec> | null
  readonly listeners: ReadonlyMap<string, Resource<BrokerListenerSpec>>
  readonly authentications: ReadonlyMap<string, Resource<BrokerAuthenticationSpec>>
  readonly authorizations: ReadonlyMap<string, Resource<BrokerAuthorizationSpec>>
  /** Key → text; null when there is none. */
  configMap(name: string): ReadonlyMap<string, string> | null
  /** Key → bytes; null when there is none. */
  secret(name: string): ReadonlyMap<string, Uint8Array> | null
  /** Annotations of a ServiceAccount that a document of `--config` describes; null when there is none. */
  serviceAccount(namespace: string, name: string): ReadonlyMap<string, string> | null
  readonly faults: readonly ResourceFault[]
  readonly warnings: readonly string[]
}

/** Where resources come from: a directory, or the Kubernetes API. */
export interface ResourceSource {
  /** The newest; `start` has resolved before. */
  readonly current: ResourceSnapshot
  /**
   * Reads for the first time, then watches.
   * @throws {SettingsError} what cannot be read or used at the first time (files); Kubernetes: the API does not answer
   */
  start(): Promise<void>
  /** Called with each later snapshot. An update with a fault is none: `onRefused` has its faults, and what was in force stays. */
  listen(listener: ResourceListener): () => void
  /** Says in the resource's status how it is; nothing for files. Repeats of what was said last cost nothing. */
  report(status: ResourceStatus): void
  /** What is wrong at this moment, for `/readyz`: an update that was refused, an API server that is away. */
  impaired(): readonly string[]
  stop(): Promise<void>
}

export interface ResourceListener {
  onSnapshot(snapshot: ResourceSnapshot): void
  onRefused(faults: readonly string[]): void
}

/** A condition as Kubernetes has them. */
export interface ResourceStatus {
  readonly kind: 'Broker' | 'BrokerListener' | 'BrokerAuthentication' | 'BrokerAuthorization'
  readonly name: string
  readonly type: 'Ready' | 'Accepted'
  readonly isTrue: boolean
  /** CamelCase. */
  readonly reason: string
  readonly message: string
}
