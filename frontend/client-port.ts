import type { PortRules } from '#shared/rpc/port-rules.ts'

/** Where a connection came in. Lives for as long as the port is open, over changes of its rules. */
export class ClientPort {
  /** For log, audit and status. */
  readonly name: string
  rules: PortRules

  constructor(name: string, rules: PortRules) {
    this.name = name
    this.rules = rules
  }
}
