import type { ResourceOrigin } from '../config/resource-origin.ts'
import { SettingsError } from '../config/settings-error.ts'
import { CertificateKeeper } from '../kubernetes/certificate-keeper.ts'
import type { Log } from '../telemetry/log.ts'
import type { Kubernetes } from '../kubernetes/kubernetes.ts'
import { DirectorySource } from './directory-source.ts'
import { KubernetesSource } from './kubernetes-source.ts'
import type { ResourceSource } from './resource-snapshot.ts'

/**
 * The resources of this process, read for the first time and watched from now on; null where there are none.
 * @throws {SettingsError} they cannot be read, or hold a fault
 */
export async function openSource(origin: ResourceOrigin, kubernetes: Kubernetes, log: Log): Promise<ResourceSource | null> {
  if (origin.is === 'none') return null
  const source =
    origin.is === 'directory' ? new DirectorySource(origin.directory) : await openInKubernetes(origin.namespace, kubernetes, log)
  await source.start()
  return source
}

async function openInKubernetes(namespace: string, kubernetes: Kubernetes, log: Log): Promise<ResourceSource> {
  const connection = await kubernetes.connect(namespace)
  if (connection === null) {
    throw new SettingsError(['flag --kubernetes: there is no API server: this is no pod, and KUBECONFIG names none'])
  }
  return new KubernetesSource({ connection, log })
}

/** In Kubernetes, cert-manager is asked for the certificates of listeners that have automatic ones; elsewhere they are read only. */
export async function keepCertificates(source: ResourceSource, kubernetes: Kubernetes, log: Log): Promise<CertificateKeeper | null> {
  if (!(source instanceof KubernetesSource)) return null
  const connection = await kubernetes.connect()
  if (connection === null) return null
  const keeper = new CertificateKeeper({ connection, log })
  keeper.keep(source.current.listeners)
  source.listen({ onSnapshot: ({ listeners }) => keeper.keep(listeners), onRefused: () => undefined })
  return keeper
}
