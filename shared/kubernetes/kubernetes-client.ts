import { type ApiAnswer, type ApiRequests, refusalText } from './api-requests.ts'
import { type KubernetesAccess, KubernetesUnavailable, type TokenReview } from './kubernetes-access.ts'
import { fieldsOf } from './kubernetes-object.ts'

/** Names of Kubernetes objects; whatever else stands in a token is no name, and no part of a path. */
const OBJECT_NAME = /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/
const OBJECT_NAME_MAX = 253
const REFUSAL_LENGTH_MAX = 256
/** A part of a token that is shorter gives nothing away that is not in every token. */
const TELLING_LENGTH = 8

/** What the authentication of service account tokens asks, over HTTPS. */
export class KubernetesClient implements KubernetesAccess {
  readonly #requests: Pick<ApiRequests, 'send'>

  constructor(requests: Pick<ApiRequests, 'send'>) {
    this.#requests = requests
  }

  async reviewToken(token: string, audiences: readonly string[]): Promise<TokenReview> {
    const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token, audiences } }
    const answer = await this.#requests.send({ method: 'POST', path: '/apis/authentication.k8s.io/v1/tokenreviews', body })
    // Not the server's words: they may repeat what it did not like, the token.
    if ([400, 413, 422].includes(answer.status)) return { is: 'refused', error: `the API server refuses the review (${answer.status})` }
    if (answer.status !== 200 && answer.status !== 201) throw unavailable('create tokenreviews', `HTTP status ${answer.status}`)
    return readReview(answer.body, token, audiences)
  }

  async serviceAccountAnnotations(namespace: string, name: string): Promise<ReadonlyMap<string, string> | null> {
    if (!isObjectName(namespace) || !isObjectName(name)) return null
    const answer = await this.#requests.send({ method: 'GET', path: `/api/v1/namespaces/${namespace}/serviceaccounts/${name}` })
    if (answer.status === 404) return null
    const metadata = fieldsOf(fieldsOf(successOf(answer, `get serviceaccounts ${namespace}/${name}`))['metadata'])
    const annotations = Object.entries(fieldsOf(metadata['annotations']))
    return new Map(annotations.filter((pair): pair is [string, string] => typeof pair[1] === 'string'))
  }

  async publishedKeys(): Promise<string> {
    return JSON.stringify(successOf(await this.#requests.send({ method: 'GET', path: '/openid/v1/jwks' }), 'get /openid/v1/jwks'))
  }
}

function readReview(body: unknown, token: string, asked: readonly string[]): TokenReview {
  const status = fieldsOf(fieldsOf(body)['status'])
  if (status['authenticated'] !== true) {
    const error = typeof status['error'] === 'string' ? status['error'] : ''
    return { is: 'refused', error: error === '' ? 'the API server does not know the token' : withoutToken(error, token) }
  }
  const user = fieldsOf(status['user'])
  const { username, uid } = user
  // A server that does not check audiences leaves them out, and must not be believed when some were asked for.
  const found = Array.isArray(status['audiences']) ? (status['audiences'] as readonly unknown[]) : []
  const audiences = asked.filter(audience => found.includes(audience))
  if (asked.length > 0 && audiences.length === 0) return { is: 'refused', error: 'the API server does not confirm the audience' }
  if (typeof username !== 'string' || username === '') return { is: 'refused', error: 'the API server names no user' }
  return { is: 'authenticated', userName: username, userUid: typeof uid === 'string' ? uid : '', audiences }
}

/** The server's words without the token or a part of it, bounded. */
function withoutToken(text: string, token: string): string {
  const parts = [token, ...token.split('.')].filter(part => part.length >= TELLING_LENGTH)
  return parts.reduce((kept, part) => kept.replaceAll(part, '…'), text).slice(0, REFUSAL_LENGTH_MAX)
}

/** @throws {KubernetesUnavailable} */
function successOf(answer: ApiAnswer, what: string): unknown {
  if (answer.status === 200) return answer.body
  throw unavailable(what, refusalText(answer))
}

function unavailable(what: string, why: string): KubernetesUnavailable {
  return new KubernetesUnavailable(`Kubernetes API: cannot ${what}: ${why}`)
}

function isObjectName(text: string): boolean {
  return text.length <= OBJECT_NAME_MAX && OBJECT_NAME.test(text)
}
