import type { ListenerStatus } from '../../frontend/admin/broker-status.ts'
import type { RoleStatus } from '../roles/running-role.ts'

/**
 * What a process and the one that started it say to each other over the channel between them: `millrace cluster` and its processes, a
 * frontend and its workers. The channel ends with either of them; a process whose channel is gone is gone as well (main.ts), so that a
 * killed supervisor leaves nothing behind.
 */
export type FromChild =
  | { readonly kind: 'state'; readonly state: ChildState }
  /** The answer to `metrics`; null when they could not be read. */
  | { readonly kind: 'metrics'; readonly request: number; readonly text: string | null }

export type ToChild = { readonly kind: 'metrics'; readonly request: number }

/** How a child is, told when it changes. */
export interface ChildState {
  /** Empty: it serves. */
  readonly waitingFor: readonly string[]
  readonly impaired: readonly string[]
  readonly listeners: readonly ListenerStatus[]
  /** `HOST:PORT` or `unix:PATH` where it takes links. */
  readonly rpc: string | null
  /** `HOST:PORT` of its own ports, with what the system chose for port 0; null for none. */
  readonly admin: string | null
  readonly metrics: string | null
  readonly status: RoleStatus
  readonly residentBytes: number
}

/** To add to a child's environment. */
export const SUPERVISED_ENVIRONMENT: Readonly<Record<string, string>> = { MILLRACE_LAUNCHER: 'supervisor' }

let isSupervised = false

/** Whoever started this process listens. Said by main.ts, before anything else runs. */
export function acceptSupervision(): void {
  isSupervised = true
}

/** The channel to whoever started this process and listens; null when nobody does. */
export function openChannel(): Channel | null {
  return isSupervised ? new Channel() : null
}

/** The child's end. */
export class Channel {
  #lastSent = ''

  /** Sends the state unless it is the one that was sent last. */
  report(state: ChildState): void {
    const text = JSON.stringify(state)
    if (text === this.#lastSent) return
    this.#lastSent = text
    this.#send({ kind: 'state', state })
  }

  /** Answers each request for metrics with what `render` gives. */
  serveMetrics(render: () => Promise<string>): void {
    process.on('message', (message: ToChild) => {
      const answer = (text: string | null): void => this.#send({ kind: 'metrics', request: message.request, text })
      render().then(answer, () => answer(null))
    })
    // Listening must not keep a process that has nothing else to do.
    process.channel?.unref()
  }

  #send(message: FromChild): void {
    // A parent that is gone: main.ts ends us.
    if (process.connected) process.send?.(message, undefined, undefined, () => undefined)
  }
}
