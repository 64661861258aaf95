import type { PortRules } from '#shared/rpc/port-rules.ts'

/** Where a connection came in. Lives for as long as the port is open, over changes of its rules. */
export class ClientPort {
  /** For log, audit and status. */
  readonly name: string
  /** Replaced by Frontend.changeRules alone, which holds the connections to the new ones. */
  rules: PortRules
  /** Whoever is still connected is to go. Set by Frontend.portClosed. */
  isClosed = false

  constructor(name: string, rules: PortRules) {
    this.name = name
    this.rules = rules
  }
}
