import { systemTimers } from '../base/timers.ts'
import { ApiRequests, type ApiRequestsOptions } from './api-requests.ts'
import type { KubernetesAccess } from './kubernetes-access.ts'
import { KubernetesClient } from './kubernetes-client.ts'
import { findEndpoint } from './kubernetes-endpoint.ts'

/** A Kubernetes API server as this process knows it. One for all who need it. */
export interface KubernetesConnection {
  readonly requests: ApiRequests
  readonly access: KubernetesAccess
  /** Ours: where resources are read. */
  readonly namespace: string
  close(): void
}

export interface OpenKubernetesOptions extends ApiRequestsOptions {
  /** Stands for the place where a pod finds its token. */
  readonly podDirectory?: string
}

/**
 * The API server that `KUBECONFIG` names or that is around this pod; null without either. Nothing is sent yet.
 * @throws {SettingsError} the kubeconfig file, or what is mounted into the pod, cannot be read or used
 */
export async function openKubernetes(
  environment: Readonly<Record<string, string | undefined>>,
  options: OpenKubernetesOptions = {},
): Promise<KubernetesConnection | null> {
  const { timers = systemTimers, podDirectory } = options
  const endpoint = await findEndpoint(environment, { timers, ...(podDirectory !== undefined && { podDirectory }) })
  if (endpoint === null) return null
  const requests = new ApiRequests(endpoint, options)
  return { requests, access: new KubernetesClient(requests), namespace: endpoint.namespace, close: () => requests.close() }
}
