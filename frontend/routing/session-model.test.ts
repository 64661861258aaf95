import { expect, test } from 'vitest'
import { ManualClock } from '#shared/base/clock.ts'
import { newMessage, type Message } from '#shared/mqtt/message.ts'
import { ReasonCode } from '#shared/mqtt/reason-code.ts'
import { Topic } from '#shared/mqtt/topic.ts'
import type { CallerPort } from '#shared/rpc/caller-port.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import type { Link } from '#shared/rpc/link.ts'
import type { OwnerPort, ResumedSession } from '#shared/rpc/owner-port.ts'
import { Recipients } from '#shared/rpc/recipients.ts'
import { RecordingLog } from '#shared/telemetry/log.ts'
import { SeededRandom } from '#shared/testing/seeded-random.ts'
import { Router } from './router.ts'

const SEEDS = Number(process.env['MODEL_SEEDS'] ?? 100)
const STEPS = 400
const CONNECTION = 3

interface Stored {
  readonly sequence: number
  readonly qos: number
  packetId: number
  phase: 'queued' | 'sent' | 'received' | 'released'
}

/** One session in a store that survives its owners, one client, and links that lose what is under way. */
class World {
  readonly #random: SeededRandom
  readonly #router: Router
  readonly #stored: Stored[] = []
  readonly received: number[] = []
  readonly answered: number[] = []
  readonly done = new Set<number>()
  readonly clientActs: (() => void)[] = []
  tickets = 0
  #sequence = 0
  #packetId = 0
  #epoch = 0
  #handle = -1
  #link: { toOwner: (() => void)[]; toCaller: (() => void)[]; link: Link; caller: CallerPort } | null = null

  constructor(random: SeededRandom) {
    this.#random = random
    this.#router = new Router({ shardCount: 1, clock: new ManualClock(), turn: { request: () => undefined }, log: new RecordingLog() })
    this.#router.bind({
      deliver: (_message: Message, recipients: Recipients) => this.#deliver(recipients),
      released: (_connection: number, packetId: number) => {
        this.clientActs.push(() => this.#router.pubcomp(0, CONNECTION, packetId))
      },
      acknowledged: (_connection: number, ticket: number) => this.answered.push(ticket),
    } as Partial<FrontendPort> as FrontendPort)
  }

  async attach(): Promise<void> {
    this.own()
    const reply = this.#router.attach({
      frontend: undefined as unknown as FrontendPort,
      connection: CONNECTION,
      clientId: 'c',
      protocolVersion: 5,
      cleanStart: true,
      sessionExpirySeconds: 9,
      receiveMaximum: 9,
      will: null,
      rights: null,
    })
    while (this.step());
    await reply
  }

  get isDone(): boolean {
    return this.#stored.length === 0
  }

  get sequences(): number {
    return this.#sequence
  }

  /** Another owner, over another link. */
  own(): void {
    this.close()
    const link = { peer: { id: 'b' }, heardMs: Infinity } as unknown as Link
    const opened = { link, toOwner: [] as (() => void)[], toCaller: [] as (() => void)[], caller: undefined as unknown as CallerPort }
    opened.caller = this.#router.onLinkOpen(link, this.#port(opened))
    this.#link = opened
    const epoch = ++this.#epoch
    opened.toCaller.push(() => opened.caller.owned(0, epoch, 0, 0))
  }

  /** The same owner loses the shard and gets it back; not twice before the first `resume` came, as nothing tells two of them apart. */
  regain(): void {
    const link = this.#link
    if (link === null || this.#handle === -1) return
    this.#handle = -1
    const epoch = ++this.#epoch
    link.toCaller.push(() => link.caller.lost(0))
    link.toCaller.push(() => link.caller.owned(0, epoch, 0, 0))
  }

  close(): void {
    if (this.#link === null) return
    const { link } = this.#link
    this.#link = null
    this.#handle = -1
    this.#router.onLinkClosed(link)
  }

  queue(qos: number): void {
    this.#stored.push({ sequence: ++this.#sequence, qos, packetId: 0, phase: 'queued' })
  }

  ask(): void {
    this.#router.release(0, CONNECTION, this.tickets++, 77)
  }

  step(): boolean {
    const steps: (() => void)[] = []
    const link = this.#link
    if (link !== null && link.toOwner.length > 0) steps.push(() => link.toOwner.shift()!())
    if (link !== null && link.toCaller.length > 0) steps.push(() => link.toCaller.shift()!())
    if (this.clientActs.length > 0) steps.push(() => this.clientActs.shift()!())
    const next = this.#stored.find(({ phase }) => phase === 'queued')
    if (next !== undefined && this.#handle !== -1) steps.push(() => this.#send(next))
    if (steps.length === 0) return false
    this.#random.pick(steps)()
    return true
  }

  #deliver(recipients: Recipients): void {
    const packetId = recipients.packetIds[0]!
    this.received.push(recipients.sequences[0]!)
    const isQos1 = (recipients.flags[0]! & 3) === 1
    this.clientActs.push(() => {
      if (isQos1) this.#router.puback(0, CONNECTION, packetId)
      else this.#router.pubrec(0, CONNECTION, packetId, ReasonCode.Success)
    })
  }

  #send(stored: Stored): void {
    const { caller, toCaller } = this.#link!
    stored.packetId = this.#packetId = (this.#packetId % 200) + 1
    stored.phase = 'sent'
    const { sequence, qos, packetId } = stored
    const recipients = new Recipients()
    recipients.add(CONNECTION, qos, packetId, null, sequence)
    toCaller.push(() => caller.deliver(newMessage(new Topic('t', Buffer.from('t')), Buffer.alloc(1), qos), recipients))
  }

  #find(packetId: number, phase: Stored['phase']): Stored | undefined {
    return this.#stored.find(stored => stored.packetId === packetId && stored.phase === phase)
  }

  #finish(stored: Stored | undefined): void {
    if (stored === undefined) return
    this.done.add(stored.sequence)
    this.#stored.splice(this.#stored.indexOf(stored), 1)
  }

  #resume(session: ResumedSession): void {
    for (const stored of this.#stored.slice()) {
      const known = session.outstanding.find(({ sequence }) => sequence === stored.sequence)
      if (known !== undefined) stored.phase = known.phase
      else if (stored.sequence > session.lastSequence) stored.phase = 'queued'
      else this.#finish(stored)
    }
  }

  #releaseReceived(packetId: number): void {
    const { caller, toCaller } = this.#link!
    const stored = this.#find(packetId, 'received')
    if (stored === undefined) return
    stored.phase = 'released'
    toCaller.push(() => caller.released(CONNECTION, packetId, ReasonCode.Success))
  }

  #port(link: { toOwner: (() => void)[]; toCaller: (() => void)[]; caller: CallerPort }): OwnerPort {
    const { toOwner, toCaller } = link
    const bind = (): number => (this.#handle = ++this.#epoch)
    /** Calls that name a binding which is over do nothing. */
    const bound =
      (act: (packetId: number) => void) =>
      (session: number, _connection: number, packetId: number): void => {
        toOwner.push(() => (session === this.#handle ? act(packetId) : undefined))
      }
    return {
      attach: (request: number) => {
        const session = bind()
        toCaller.push(() => link.caller.attached(request, { is: 'attached', session, sessionPresent: false }))
      },
      resume: (_shard: number, sessions: readonly ResumedSession[]) => {
        toOwner.push(() => {
          if (sessions[0] === undefined) return
          this.#resume(sessions[0])
          const session = bind()
          toCaller.push(() => link.caller.resumed(0, [{ connection: CONNECTION, session }]))
          for (const stored of this.#stored) if (stored.phase === 'received') this.#releaseReceived(stored.packetId)
        })
      },
      puback: bound(packetId => this.#finish(this.#find(packetId, 'sent'))),
      pubrec: bound(packetId => {
        const stored = this.#find(packetId, 'sent')
        if (stored !== undefined) stored.phase = 'received'
        this.#releaseReceived(packetId)
      }),
      pubcomp: bound(packetId => this.#finish(this.#find(packetId, 'released'))),
      release: bound(ticket => toCaller.push(() => link.caller.acknowledged(CONNECTION, ticket, ReasonCode.Success))),
      wantRoutes: () => undefined,
      routesApplied: () => undefined,
      writable: () => undefined,
    } as Partial<OwnerPort> as OwnerPort
  }
}

test('a connected client gets each QoS 1 and 2 message once and in order, and each answer once, whoever owns its session', async () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const random = new SeededRandom(seed)
    const world = new World(random)
    await world.attach()
    for (let step = 0; step < STEPS; step++) {
      if (random.chance(0.2)) world.queue(random.int(1, 2))
      if (random.chance(0.05)) world.ask()
      if (random.chance(0.03)) world.own()
      else if (random.chance(0.02)) world.close()
      else if (random.int(1, 50) === 1) world.regain()
      for (let steps = random.int(0, 4); steps > 0; steps--) world.step()
    }
    world.own()
    while (world.step());
    const inOrder = Array.from({ length: world.sequences }, (_, at) => at + 1)
    expect(world.received, `seed ${seed}`).toEqual(inOrder)
    expect(world.isDone, `seed ${seed}: all acknowledged`).toBe(true)
    expect(
      [...world.answered].sort((one, other) => one - other),
      `seed ${seed}: tickets`,
    ).toEqual(Array.from({ length: world.tickets }, (_, ticket) => ticket))
  }
})
