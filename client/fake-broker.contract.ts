import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import mqttPacket, { type IPublishPacket, type Packet } from 'mqtt-packet'
import { type Defect, FakeStore, type Notify, type StoreEngine, textOf } from './fake-store.contract.ts'
import type { HybridTime } from './hybrid-clock.ts'
import { hexOf, notificationPrefixOf, REQUEST_TOPIC } from './topics.ts'

interface Connection {
  readonly socket: Socket
  readonly clientId: string
  readonly filters: Set<string>
  packetId: number
}

/** What happens to a request: done and answered; the same without a PUBACK; done, and the answer kept back; the connection cut before or after it is done. */
export type Fate = 'answer' | 'answer-alone' | 'silence' | 'cut-before' | 'cut-after'

export interface FakeBrokerOptions {
  readonly defect?: Defect
  /** Instead of the fake store. */
  readonly engine?: (notify: Notify) => StoreEngine
  readonly now?: () => number
  readonly username?: string
  readonly password?: string
  readonly port?: number
}

const NOT_AUTHORIZED = 0x87
const BAD_USER_NAME_OR_PASSWORD = 0x86

/** As much of an MQTT 5 server as clients of the state store need: no sessions that are kept, exact filters, the store. */
export class FakeBroker implements AsyncDisposable {
  readonly #server: Server
  readonly #store: StoreEngine
  readonly #options: FakeBrokerOptions
  readonly #connections = new Map<string, Connection>()
  readonly #sockets = new Set<Socket>()
  #expiry: NodeJS.Timeout | undefined
  /** Asked for each request, by its verb. */
  fateOf: (verb: string, clientId: string) => Fate = () => 'answer'
  /** Subscriptions to this topic are not granted. */
  forbiddenFilter: string | null = null
  /** Has no room for another notification: they are dropped. */
  slow: string | null = null
  /** This client cannot connect. */
  turnedAway: string | null = null
  /** Everything that was executed, in order: `SET client`. */
  readonly executed: string[] = []
  /** For requests: PUBACK with this code, and nothing done. */
  refusal: number | null = null

  private constructor(options: FakeBrokerOptions) {
    this.#options = options
    const notify: Notify = (...told) => this.#notify(...told)
    this.#store = options.engine?.(notify) ?? new FakeStore(options.now ?? Date.now, notify, options.defect ?? null)
    this.#server = createServer(socket => this.#accept(socket))
  }

  static async start(options: FakeBrokerOptions = {}): Promise<FakeBroker> {
    const broker = new FakeBroker(options)
    broker.#server.listen(options.port ?? 0, '127.0.0.1')
    await once(broker.#server, 'listening')
    return broker
  }

  get url(): string {
    return `mqtt://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Ends the connection of one client without a word. Resolves when nothing of it is left. */
  async cut(clientId: string): Promise<void> {
    const { socket } = this.#connections.get(clientId)!
    socket.destroy()
    await once(socket, 'close')
  }

  /** Ends every connection without a word. */
  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#expiry)
    this.cutAll()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket)
    socket.setNoDelay(true)
    const parser = mqttPacket.parser({ protocolVersion: 5 })
    let connection: Connection | null = null
    parser.on('packet', packet => {
      if (packet.cmd === 'connect') connection = this.#onConnect(socket, packet.clientId, packet.username, packet.password)
      else if (connection !== null) this.#onPacket(connection, packet)
    })
    parser.on('error', () => socket.destroy())
    socket.on('data', chunk => parser.parse(chunk))
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#sockets.delete(socket)
      if (connection === null || this.#connections.get(connection.clientId) !== connection) return
      this.#connections.delete(connection.clientId)
      this.#store.forget(connection.clientId)
    })
  }

  #onConnect(socket: Socket, clientId: string, username?: string, password?: Buffer | string): Connection | null {
    if (clientId === this.turnedAway) {
      socket.destroy()
      return null
    }
    const { username: expected, password: secret } = this.#options
    const isWelcome = (expected === undefined || expected === username) && (secret === undefined || secret === password?.toString())
    send(socket, { cmd: 'connack', sessionPresent: false, reasonCode: isWelcome ? 0 : BAD_USER_NAME_OR_PASSWORD })
    if (!isWelcome) {
      socket.end()
      return null
    }
    this.#connections.get(clientId)?.socket.destroy()
    this.#store.forget(clientId)
    const connection = { socket, clientId, filters: new Set<string>(), packetId: 0 }
    this.#connections.set(clientId, connection)
    return connection
  }

  #onPacket(connection: Connection, packet: Packet): void {
    const { socket, filters } = connection
    switch (packet.cmd) {
      case 'subscribe': {
        const topics = packet.subscriptions.map(({ topic }) => topic)
        const granted = topics.map(topic => (topic === this.forbiddenFilter ? NOT_AUTHORIZED : 1))
        topics.filter(topic => topic !== this.forbiddenFilter).forEach(topic => filters.add(topic))
        return send(socket, { cmd: 'suback', messageId: packet.messageId!, granted })
      }
      case 'unsubscribe':
        packet.unsubscriptions.forEach(topic => filters.delete(topic))
        return send(socket, { cmd: 'unsuback', messageId: packet.messageId!, granted: packet.unsubscriptions.map(() => 0) })
      case 'publish':
        return packet.topic === REQUEST_TOPIC ? this.#onRequest(connection, packet) : undefined
      case 'pingreq':
        return send(socket, { cmd: 'pingresp' })
      case 'disconnect':
        socket.end()
        return
      default:
        return undefined
    }
  }

  #onRequest(connection: Connection, packet: IPublishPacket): void {
    const { socket, clientId } = connection
    const { responseTopic, correlationData, userProperties } = packet.properties ?? {}
    if (this.refusal !== null) return send(socket, { cmd: 'puback', messageId: packet.messageId!, reasonCode: this.refusal })
    const payload = Buffer.from(packet.payload)
    const verb = payload.toString('latin1').split('\r\n')[2] ?? ''
    const fate = this.fateOf(verb, clientId)
    if (fate === 'cut-before') return void socket.destroy()
    this.executed.push(`${verb} ${clientId}`)
    const response = this.#store.execute({ clientId, payload, ts: first(userProperties?.['__ts']), ft: first(userProperties?.['__ft']) })
    this.#armExpiry()
    if (fate === 'cut-after') return void socket.destroy()
    if (fate !== 'answer-alone') send(socket, { cmd: 'puback', messageId: packet.messageId!, reasonCode: 0 })
    if (fate === 'silence' || !connection.filters.has(responseTopic!)) return
    this.#publish(connection, responseTopic!, response.payload, { __stat: '200', __protVer: '1.0' }, response.version, correlationData)
  }

  #notify(...[clientId, key, payload, version, previous]: Parameters<Notify>): void {
    const connection = this.#connections.get(clientId)
    if (connection === undefined || clientId === this.slow) return
    const properties: Record<string, string> = previous === undefined ? {} : { __prev: textOf(previous)! }
    this.#publish(connection, notificationPrefixOf(clientId) + hexOf(key), payload, properties, version)
  }

  #publish(
    connection: Connection,
    topic: string,
    payload: Buffer,
    properties: Readonly<Record<string, string>>,
    version: HybridTime | null,
    correlationData?: Buffer,
  ): void {
    connection.packetId = (connection.packetId % 65_535) + 1
    const ts = textOf(version)
    const userProperties = { ...properties, ...(ts !== undefined && { __ts: ts }) }
    send(connection.socket, {
      cmd: 'publish',
      topic,
      payload,
      qos: 1,
      retain: false,
      dup: false,
      messageId: connection.packetId,
      properties: { userProperties, ...(correlationData !== undefined && { correlationData }) },
    })
  }

  #armExpiry(): void {
    clearTimeout(this.#expiry)
    const leftMs = this.#store.expire()
    if (leftMs !== null) this.#expiry = setTimeout(() => this.#armExpiry(), Math.min(leftMs, 2_147_483_647))
  }
}

function send(socket: Socket, packet: Packet): void {
  if (!socket.destroyed) socket.write(mqttPacket.generate(packet, { protocolVersion: 5 }))
}

function first(property: string | string[] | undefined): string | undefined {
  return typeof property === 'string' ? property : property?.[0]
}
