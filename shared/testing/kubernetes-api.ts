import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { systemRandom } from '../base/random.ts'
import { systemTimers } from '../base/timers.ts'
import type { KubernetesObject } from '../kubernetes/kubernetes-object.ts'
import { ApiRefusal, collectionOf, kindOf, KubernetesObjects, mergePatch, resourceOf } from './kubernetes-objects.ts'
import { KubernetesTokens, type TokenRequest } from './kubernetes-tokens.ts'
import { KubernetesWatcher } from './kubernetes-watcher.ts'
import { createTestPki, type TestPki } from './pki.ts'

/**
 * How requests are met: answered; answered with that HTTP status; taken and never answered; cut off. Watches that are open go on:
 * see dropWatches and freezeWatches.
 */
export type ApiMood = 'serving' | 429 | 500 | 503 | 'silent' | 'dropping'

export interface SeenRequest {
  readonly method: string
  /** With its query. */
  readonly path: string
}

interface Place {
  readonly collection: string
  readonly namespace: string | null
  readonly name: string | null
  readonly isStatus: boolean
}

const PAGE_PATH = /^\/(?:api|apis\/([^/]+))\/([^/]+)(?:\/namespaces\/([^/]+))?\/([^/]+)(?:\/([^/]+)(\/status)?)?$/
const NAMESPACE = 'azure-iot-operations'
let sharedPki: Promise<TestPki> | null = null

/**
 * Stand-in for a Kubernetes API server: HTTPS with a CA of its own, a bearer token, objects with optimistic concurrency, lists in pages, watches, and
 * service account tokens that are signed and reviewed. Namespaces need not be created. `put` and `delete` are what an administrator does;
 * a watch sees it.
 */
export class KubernetesApi {
  readonly ca: Buffer
  readonly namespace = NAMESPACE
  readonly objects = new KubernetesObjects()
  readonly tokens = new KubernetesTokens(this.objects)
  readonly requests: SeenRequest[] = []
  mood: ApiMood = 'serving'
  /** Every answer waits so long. */
  delayMs = 0
  /** How a watch from a revision that is forgotten is refused: as most servers do, by an event of an answer 200, or by its status. */
  goneAs: 'event' | 'status' = 'event'
  /** Events of watches arrive in pieces. */
  splitsEvents = false
  /** `VERB RESOURCE`, for instance `list secrets`: refused with 403. */
  readonly refused = new Set<string>()
  /** `RESOURCE`, for instance `certificates.cert-manager.io`: answered with 404, as by a cluster in which it is not installed. */
  readonly missing = new Set<string>()
  readonly #server: Server
  readonly #directory: string
  readonly #sockets = new Set<Duplex>()
  readonly #watchers = new Set<KubernetesWatcher>()
  readonly #pages = new Map<string, readonly KubernetesObject[]>()
  #bearer: string = systemRandom.uuid()
  #tokenReviews = 0

  /** @param authority `own`: not that of the others of this process, which share one because openssl takes its time */
  static async open(authority: 'shared' | 'own' = 'shared'): Promise<KubernetesApi> {
    const directory = await mkdtemp(join(tmpdir(), 'millrace-kubernetes-'))
    const pki = authority === 'own' ? createTestPki() : (sharedPki ??= createTestPki())
    const api = new KubernetesApi(directory, await pki)
    await api.#listen()
    api.writeKubeconfig(directory)
    api.writePod(directory)
    return api
  }

  private constructor(directory: string, pki: TestPki) {
    this.#directory = directory
    this.ca = pki.ca
    this.#server = createServer({ cert: pki.serverCert, key: pki.serverKey }, (request, response) => {
      void this.#onRequest(request, response)
    })
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    })
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get bearerToken(): string {
    return this.#bearer
  }

  /** TokenReviews that were asked for, whatever the answer. */
  get tokenReviewCount(): number {
    return this.#tokenReviews
  }

  get connectionCount(): number {
    return this.#sockets.size
  }

  /** Watches that are open, as the query of each. */
  get watches(): readonly KubernetesWatcher[] {
    return [...this.#watchers]
  }

  /** For a process outside the cluster: a kubeconfig file that ends with `close`. */
  get environment(): Readonly<Record<string, string>> {
    return { KUBECONFIG: join(this.#directory, 'kubeconfig') }
  }

  /** For a process inside the cluster: its environment, and what is mounted into it, which ends with `close`. */
  get pod(): { readonly environment: Readonly<Record<string, string>>; readonly podDirectory: string } {
    const environment = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: String(this.port) }
    return { environment, podDirectory: this.#directory }
  }

  /** @returns the file */
  writeKubeconfig(directory: string): string {
    const cluster = { server: this.url, 'certificate-authority-data': this.ca.toString('base64') }
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'test',
      clusters: [{ name: 'test', cluster }],
      users: [{ name: 'test', user: { token: this.#bearer } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test', namespace: NAMESPACE } }],
    }
    const file = join(directory, 'kubeconfig')
    writeFileSync(file, JSON.stringify(config))
    return file
  }

  /** For a process inside the cluster: what is mounted into a pod. @returns its environment */
  writePod(directory: string): Readonly<Record<string, string>> {
    writeFileSync(join(directory, 'token'), this.#bearer)
    writeFileSync(join(directory, 'ca.crt'), this.ca)
    writeFileSync(join(directory, 'namespace'), NAMESPACE)
    return this.pod.environment
  }

  /** The token that was good so far is refused with 401 from now on. */
  rotateBearerToken(): void {
    this.#bearer = systemRandom.uuid()
  }

  mintToken(request: TokenRequest): string {
    return this.tokens.mint(request)
  }

  createServiceAccount(namespace: string, name: string, annotations: Readonly<Record<string, string>> = {}): KubernetesObject {
    return this.put({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace, annotations } })
  }

  deleteServiceAccount(namespace: string, name: string): void {
    this.delete('ServiceAccount', name, namespace)
  }

  /** Creates or replaces. */
  put(object: KubernetesObject): KubernetesObject {
    const collection = collectionOf(object.kind)
    const namespace = object.metadata.namespace ?? NAMESPACE
    if (this.objects.get(collection, namespace, object.metadata.name) === null) return this.objects.create(collection, namespace, object)
    return this.objects.replace(collection, namespace, object, 'object')
  }

  get(kind: string, name: string, namespace: string = NAMESPACE): KubernetesObject | null {
    return this.objects.get(collectionOf(kind), namespace, name)
  }

  delete(kind: string, name: string, namespace: string = NAMESPACE): void {
    this.objects.delete(collectionOf(kind), namespace, name)
  }

  /** Forgets the history: a watch that resumes gets 410. Open ones go on. */
  compact(): void {
    this.objects.compact()
  }

  bookmark(): void {
    for (const watcher of this.#watchers) watcher.bookmark()
  }

  dropWatches(): void {
    for (const watcher of this.#watchers) watcher.drop()
  }

  freezeWatches(): void {
    for (const watcher of this.#watchers) watcher.isFrozen = true
  }

  /** Ends every connection. */
  dropConnections(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.dropConnections()
    await closed
    await rm(this.#directory, { recursive: true, force: true })
  }

  async #listen(): Promise<void> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
  }

  async #onRequest(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests.push({ method: request.method ?? '', path: request.url ?? '' })
    if (this.delayMs > 0) await new Promise<void>(resolve => systemTimers.after(this.delayMs, resolve))
    try {
      await this.#answer(request, response)
    } catch (error) {
      if (error instanceof ApiRefusal) refuse(response, error)
      else refuse(response, new ApiRefusal(400, 'BadRequest', String(error)))
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { mood } = this
    if (mood === 'silent') return
    if (mood === 'dropping') return void request.socket.destroy()
    if (typeof mood === 'number') throw new ApiRefusal(mood, mood === 429 ? 'TooManyRequests' : 'InternalError', 'not at this moment')
    if (request.headers.authorization !== `Bearer ${this.#bearer}`) throw new ApiRefusal(401, 'Unauthorized', 'Unauthorized')
    const url = new URL(request.url ?? '/', this.url)
    const method = request.method ?? 'GET'
    if (url.pathname === '/openid/v1/jwks') return send(response, 200, this.tokens.publishedKeys)
    if (url.pathname === '/apis/authentication.k8s.io/v1/tokenreviews' && method === 'POST') {
      this.#allow('create', 'tokenreviews.authentication.k8s.io', null)
      return this.#review(await readBody(request), response)
    }
    const place = placeOf(url.pathname)
    if (this.missing.has(resourceOf(place.collection))) throw notFound()
    const verb = verbOf(method, place, url.searchParams)
    this.#allow(verb, place.isStatus ? `${resourceOf(place.collection)}/status` : resourceOf(place.collection), place.namespace)
    if (verb === 'watch') return this.#watch(place, url.searchParams, response)
    if (verb === 'list') return send(response, 200, this.#list(place, url.searchParams))
    const body = ['POST', 'PUT', 'PATCH'].includes(method) ? await readBody(request) : null
    const contentType = request.headers['content-type'] ?? ''
    send(response, method === 'POST' ? 201 : 200, this.#act(method, place, body, contentType))
  }

  #allow(verb: string, resource: string, namespace: string | null): void {
    if (!this.refused.has(`${verb} ${resource}`)) return
    const where = namespace === null ? 'at the cluster scope' : `in the namespace "${namespace}"`
    throw new ApiRefusal(403, 'Forbidden', `User "test" cannot ${verb} resource "${resource}" ${where}`)
  }

  #review(body: unknown, response: ServerResponse): void {
    this.#tokenReviews++
    const { spec } = body as { spec?: { token?: string; audiences?: readonly string[] } }
    if (spec?.token === undefined || spec.token === '') throw new ApiRefusal(400, 'BadRequest', 'token is required for TokenReview')
    const status = this.tokens.review(spec.token, spec.audiences ?? [])
    send(response, 201, { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', metadata: {}, spec, status })
  }

  #list(place: Place, query: URLSearchParams): object {
    const { collection } = place
    const token = query.get('continue')
    const rest = token === null ? this.objects.list(collection, place.namespace, nameSelector(query)) : this.#pages.get(token)
    if (rest === undefined) throw new ApiRefusal(410, 'Expired', 'The provided continue parameter is too old')
    const limit = Number(query.get('limit') ?? 0)
    const isLast = limit === 0 || rest.length <= limit
    const next = isLast ? null : systemRandom.uuid()
    if (next !== null) this.#pages.set(next, rest.slice(limit))
    const page = isLast ? rest : rest.slice(0, limit)
    // Items of the core group come without apiVersion and kind; those of custom resources have them.
    const items = collection.startsWith('v1/') ? page.map(({ apiVersion: _version, kind: _kind, ...item }) => item) : page
    return {
      kind: `${kindOf(collection)}List`,
      apiVersion: collection.slice(0, collection.lastIndexOf('/')),
      metadata: { resourceVersion: String(this.objects.revision), ...(next !== null && { continue: next }) },
      items,
    }
  }

  #watch(place: Place, query: URLSearchParams, response: ServerResponse): void {
    const revision = Number(query.get('resourceVersion') ?? this.objects.revision)
    const watcher = new KubernetesWatcher(
      {
        collection: place.collection,
        namespace: place.namespace,
        name: nameSelector(query),
        revision,
        allowsBookmarks: query.get('allowWatchBookmarks') === 'true',
        timeoutSeconds: Number(query.get('timeoutSeconds') ?? 1_800),
      },
      this.objects,
      response,
    )
    watcher.isSplitting = this.splitsEvents
    const missed = this.objects.since(revision)
    const message = `too old resource version: ${revision}`
    if (missed === null && this.goneAs === 'status') throw new ApiRefusal(410, 'Expired', message)
    this.#watchers.add(watcher)
    response.once('close', () => this.#watchers.delete(watcher))
    watcher.start(missed ?? [])
    if (missed === null) watcher.fail(410, 'Expired', message)
  }

  #act(method: string, place: Place, body: unknown, contentType: string): object {
    const { collection, name } = place
    const namespace = place.namespace ?? ''
    const part = place.isStatus ? 'status' : 'object'
    if (method === 'POST') return this.objects.create(collection, namespace, asObject(body, place))
    if (name === null) throw new ApiRefusal(405, 'MethodNotAllowed', method)
    if (method === 'GET') return this.objects.mustGet(collection, namespace, name)
    if (method === 'PUT') return this.objects.replace(collection, namespace, asObject(body, place), part)
    if (method === 'DELETE') return this.objects.delete(collection, namespace, name)
    if (method !== 'PATCH' || contentType !== 'application/merge-patch+json') {
      throw new ApiRefusal(415, 'UnsupportedMediaType', `the body of the request was in an unknown format: ${contentType}`)
    }
    const before = this.objects.mustGet(collection, namespace, name)
    return this.objects.replace(collection, namespace, asObject(mergePatch(before, body), place), part)
  }
}

function placeOf(path: string): Place {
  const [, group, version, namespace, plural, name, status] = PAGE_PATH.exec(path) ?? []
  const collection = `${group === undefined ? '' : `${group}/`}${version}/${plural}`
  if (kindOf(collection) === null) throw notFound()
  return { collection, namespace: namespace ?? null, name: name ?? null, isStatus: status !== undefined }
}

function notFound(): ApiRefusal {
  return new ApiRefusal(404, 'NotFound', 'the server could not find the requested resource')
}

function verbOf(method: string, place: Place, query: URLSearchParams): string {
  const isWatch = ['1', 'true'].includes(query.get('watch') ?? '')
  if (method === 'GET') return isWatch ? 'watch' : place.name === null ? 'list' : 'get'
  return { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' }[method] ?? method.toLowerCase()
}

function nameSelector(query: URLSearchParams): string | null {
  const selector = query.get('fieldSelector')
  if (selector === null) return null
  const [field, name] = selector.split('=')
  if (field !== 'metadata.name' || name === undefined) throw new ApiRefusal(400, 'BadRequest', `field label not supported: ${field}`)
  return name
}

/** @throws {ApiRefusal} 400: it says other things than the path */
function asObject(body: unknown, place: Place): KubernetesObject {
  const object = body as KubernetesObject
  const { metadata } = object
  const isSame =
    object.kind === kindOf(place.collection) &&
    (place.name === null || metadata.name === place.name) &&
    (metadata.namespace === undefined || metadata.namespace === place.namespace)
  if (!isSame) throw new ApiRefusal(400, 'BadRequest', 'kind, name or namespace of the object differ from those of the request')
  return object
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return JSON.parse(Buffer.concat(chunks).toString())
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function refuse(response: ServerResponse, { status, reason, message }: ApiRefusal): void {
  if (response.headersSent) return void response.end()
  send(response, status, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code: status })
}
