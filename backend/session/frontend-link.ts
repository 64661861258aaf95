import { Recipients } from '#shared/rpc/recipients.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'
import type { Session } from './session.ts'

/** A frontend as the backend sees it, with the list it collects recipients in while one publish is matched. */
export class FrontendLink {
  readonly port: FrontendPort
  /** Which instance of which frontend it is: a later link of the same one has the same. Empty in the process of the backend. */
  readonly frontend: string
  readonly recipients = new Recipients()
  /** For one message from a session's queue: apart, because a publish may be collecting recipients meanwhile. */
  readonly single = new Recipients()
  /** Sessions with a connection on it; kept only where a link can end before the process does. */
  readonly sessions = new Set<Session>()
  /** The link takes no more for now: messages stay in the sessions, QoS 0 is dropped and counted. */
  isCongested = false
  #isToldFull = false

  constructor(port: FrontendPort, frontend: string) {
    this.port = port
    this.frontend = frontend
  }

  /** Says whether memory is full, when the frontend was last told otherwise. It takes messages to begin with. */
  tellPressure(isFull: boolean): void {
    if (isFull === this.#isToldFull) return
    this.#isToldFull = isFull
    this.port.pressure(isFull)
  }
}
