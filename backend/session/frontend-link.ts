import { Recipients } from '#shared/rpc/recipients.ts'
import type { FrontendPort } from '#shared/rpc/frontend-port.ts'

/** A frontend as the backend sees it, with the list it collects recipients in while one publish is matched. */
export class FrontendLink {
  readonly port: FrontendPort
  readonly recipients = new Recipients()
  /** For one message from a session's queue: apart, because a publish may be collecting recipients meanwhile. */
  readonly single = new Recipients()

  constructor(port: FrontendPort) {
    this.port = port
  }
}
