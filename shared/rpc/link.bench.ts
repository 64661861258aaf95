import { systemTimers } from '../base/timers.ts'
import { ImmediateTurn } from '../base/turn.ts'
import { RecordingLog } from '../telemetry/log.ts'
import type { LinkAddress } from './link-address.ts'
import { LinkDialer } from './link-dialer.ts'
import { LinkHub } from './link-hub.ts'
import { listenLinks } from './link-listener.ts'
import type { LinkSettings } from './link-settings.ts'
import type { Link, LinkHandler } from './link.ts'

/**
 * What a frame costs, both ends and the kernel together in one process: `node shared/rpc/link.bench.ts`. One end sends so many frames
 * in a turn, the other answers the last of them, and so on.
 */
const BODY = Buffer.alloc(64, 7)
const SECONDS = 1

function hubFor(): LinkHub {
  const turn = new ImmediateTurn([() => hub.endTurn()])
  const hub: LinkHub = new LinkHub({ turn, timers: systemTimers, log: new RecordingLog() })
  return hub
}

function settings(role: 'frontend' | 'backend'): LinkSettings {
  return { self: { cluster: 'bench', shards: 64, role, id: role, instance: '1' }, proof: { is: 'none' }, tls: null }
}

function ignore(): void {}

/** Nanoseconds per frame with `framesPerTurn` frames of 64 bytes in each write. */
function measure(link: Link, onAnswer: (run: () => void) => void, framesPerTurn: number): Promise<number> {
  return new Promise(resolve => {
    let frames = 0
    const startMs = performance.now()
    const sendTurn = (): void => {
      const elapsedMs = performance.now() - startMs
      if (elapsedMs > SECONDS * 1_000) return resolve((elapsedMs * 1e6) / frames)
      for (let i = 1; i < framesPerTurn; i++) {
        link.beginFrame(1).raw(BODY)
        link.endFrame()
      }
      link.beginFrame(2).raw(BODY)
      link.endFrame()
      frames += framesPerTurn
    }
    onAnswer(sendTurn)
    sendTurn()
  })
}

async function run(at: LinkAddress): Promise<void> {
  const [here, there] = [hubFor(), hubFor()]
  let received = 0
  const listener = await listenLinks(at, settings('backend'), there, link => ({
    onFrame: (method, body) => {
      received += body.u8()
      if (method !== 2) return
      link.beginFrame(3)
      link.endFrame()
    },
    onCongestion: ignore,
    onClosed: ignore,
  }))
  let answered = ignore
  const link = await new Promise<Link>(resolve => {
    const onOpen = (opened: Link): LinkHandler => {
      resolve(opened)
      return { onFrame: () => answered(), onCongestion: ignore, onClosed: () => dialer.stop('over') }
    }
    const owner = { onOpen, onRefused: ignore }
    const dialer = new LinkDialer({
      hub: here,
      address: listener.address,
      settings: settings('frontend'),
      owner,
      random: { fraction: () => 0 },
    })
    dialer.start()
  })
  const onAnswer = (next: () => void): void => {
    answered = next
  }
  for (const framesPerTurn of [1, 16, 256, 4_096, 4_096]) {
    const ns = await measure(link, onAnswer, framesPerTurn)
    console.log(
      `${'path' in at ? 'unix' : 'tcp '} ${framesPerTurn} frames a turn: ${ns.toFixed(0)} ns a frame, ${(1e3 / ns).toFixed(2)} million/s`,
    )
  }
  if (received === 0) throw new Error('nothing received')
  link.close('over')
  await listener.close()
}

await run({ host: '127.0.0.1', port: 0 })
await run({ path: `/tmp/millrace-bench-${process.pid}.sock` })
