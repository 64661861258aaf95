import { type KubernetesConnection, openKubernetes } from './open-kubernetes.ts'
import type { KubernetesAccess } from './kubernetes-access.ts'

/** The API server that the environment names, connected when it is first needed: reading its configuration is not for those who do not. */
export class Kubernetes {
  readonly #environment: Readonly<Record<string, string | undefined>>
  #connection: Promise<KubernetesConnection | null> | null = null

  constructor(environment: Readonly<Record<string, string | undefined>>) {
    this.#environment = environment
  }

  /** @throws {SettingsError} what names it cannot be read or used; null: nothing names one */
  connect(namespace = ''): Promise<KubernetesConnection | null> {
    this.#connection ??= openKubernetes(this.#environment).then(found =>
      found === null || namespace === '' ? found : { ...found, namespace },
    )
    return this.#connection
  }

  /** For service account tokens. Null: nothing names an API server. */
  get access(): KubernetesAccess | null {
    if (this.#environment['KUBECONFIG'] === undefined && this.#environment['KUBERNETES_SERVICE_HOST'] === undefined) return null
    const access = async (): Promise<KubernetesAccess> => {
      const connection = await this.connect()
      if (connection === null) throw new Error('no Kubernetes API server is configured')
      return connection.access
    }
    return {
      reviewToken: async (token, audiences) => (await access()).reviewToken(token, audiences),
      serviceAccountAnnotations: async (namespace, name) => (await access()).serviceAccountAnnotations(namespace, name),
      publishedKeys: async () => (await access()).publishedKeys(),
    }
  }

  async close(): Promise<void> {
    const connection = await this.#connection?.catch(() => null)
    connection?.close()
  }
}
