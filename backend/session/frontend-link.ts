import { Recipients } from '#shared/rpc/recipients.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'

/** A frontend as the backend sees it, with the list it collects recipients in while one publish is matched. */
export class FrontendLink {
  readonly port: FrontendPort
  readonly recipients = new Recipients()
  /** For one message from a session's queue: apart, because a publish may be collecting recipients meanwhile. */
  readonly single = new Recipients()
  #isToldFull = false

  constructor(port: FrontendPort) {
    this.port = port
  }

  /** Says whether memory is full, when the frontend was last told otherwise. It takes messages to begin with. */
  tellPressure(isFull: boolean): void {
    if (isFull === this.#isToldFull) return
    this.#isToldFull = isFull
    this.port.pressure(isFull)
  }
}
