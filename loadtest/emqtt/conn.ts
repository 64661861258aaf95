import type { Output } from '../output.ts'
import { Crowd, untilInterrupted } from './crowd.ts'
import { emqttHelp, parseEmqttFlags } from './flags.ts'

/** `conn`: connects clients and keeps them until interrupted. @throws {UsageError} */
export async function conn(argv: readonly string[], output: Output): Promise<number> {
  const flags = parseEmqttFlags('conn', argv)
  if (!flags) {
    output.out(emqttHelp('conn'))
    return 0
  }
  const crowd = new Crowd(flags, output)
  await crowd.connect('conn', () => {})
  await untilInterrupted(output)
  return crowd.close()
}
