import { ContractHost } from './host.ts'
import type { HostCommand } from './host.ts'

/** A command to one of the hosts in this process. */
export interface HostMessage {
  readonly host: number
  readonly sequence: number
  readonly command: HostCommand
}

/** ContractHosts for another process: one JSON message per command and per answer, over the channel that `fork` opens. */
const hosts = new Map<number, ContractHost>()

process.on('message', ({ host: id, sequence, command }: HostMessage) => {
  const host = hosts.get(id) ?? new ContractHost()
  hosts.set(id, host)
  const answer = (reply: object): void => void process.send?.({ sequence, ...reply })
  host.run(command).then(
    result => answer({ result }),
    (error: Error) => answer({ error: error.stack ?? error.message }),
  )
})

process.on('disconnect', () => process.exit(0))
