import { ClusterSecret, secretOfKey } from '#shared/cluster/cluster-secret.ts'
import type { MemberSettings } from '#shared/config/role-settings.ts'
import { redisTls } from './member-registry.ts'

/**
 * What the frontends and authentication services of a cluster know and nobody else does: made of the cluster key, else kept in Redis, which may
 * take its time. Null where the key says it all.
 * @param onSecret told at once of one made of the key, of others whenever they are new
 */
export function openClusterSecret(
  { clusterKey, clusterName, redis, redisTls: tls }: MemberSettings,
  onSecret: (secret: Uint8Array) => void,
): ClusterSecret | null {
  if (clusterKey !== null) {
    onSecret(secretOfKey(clusterKey, clusterName))
    return null
  }
  const secret = new ClusterSecret({ url: redis, tls: redisTls(tls), clusterName, onSecret })
  secret.start()
  return secret
}
