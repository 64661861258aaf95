import type { Output } from '../output.ts'
import { Crowd, untilInterrupted } from './crowd.ts'
import { emqttHelp, fillIn, parseEmqttFlags } from './flags.ts'

/** `sub`: each client subscribes to one filter and counts what comes, until interrupted. @throws {UsageError} */
export async function sub(argv: readonly string[], output: Output): Promise<number> {
  const flags = parseEmqttFlags('sub', argv)
  if (!flags) {
    output.out(emqttHelp('sub'))
    return 0
  }
  const crowd = new Crowd(flags, output)
  await crowd.connect('sub', ({ client, number, clientId }) => {
    client.deliveries = { delivered: () => crowd.tally.add('recv') }
    const filter = fillIn(flags.topic, { number, clientId, username: flags.username })
    void client.subscribe(filter, flags.qos).then(() => crowd.tally.add(client.refusedFilters > 0 ? 'sub_fail' : 'sub'))
  })
  await untilInterrupted(output)
  return crowd.close()
}
