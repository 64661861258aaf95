/** What the authentication of service account tokens asks the Kubernetes API. A test's stand-in is shared/testing/kubernetes-api.ts. */
export interface KubernetesAccess {
  /** TokenReview (authentication.k8s.io/v1). The token is in no error and no log. @throws {KubernetesUnavailable} */
  reviewToken(token: string, audiences: readonly string[]): Promise<TokenReview>
  /** Null: there is no such ServiceAccount. @throws {KubernetesUnavailable} */
  serviceAccountAnnotations(namespace: string, name: string): Promise<ReadonlyMap<string, string> | null>
  /** The cluster's keys for service account tokens (`/openid/v1/jwks`), as JSON. @throws {KubernetesUnavailable} */
  publishedKeys(): Promise<string>
}

export type TokenReview =
  | {
      readonly is: 'authenticated'
      /** `system:serviceaccount:NAMESPACE:NAME` */
      readonly userName: string
      readonly userUid: string
      /** Those of the token that were asked for. */
      readonly audiences: readonly string[]
    }
  | { readonly is: 'refused'; readonly error: string }

/** The API server does not answer, or answers 429 or 5xx, or refuses us (401, 403): a later attempt may succeed. */
export class KubernetesUnavailable extends Error {
  override readonly name = 'KubernetesUnavailable'
}
