import { once } from 'node:events'
import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { freePort, freePorts } from './free-ports.ts'

test('ports are different, below those that systems give themselves, and can be listened on; one that is in use is passed over', async () => {
  const ports = await freePorts(20)
  expect(new Set([...ports, await freePort()]).size).toBe(21)
  for (const port of ports) {
    expect(port).toBeGreaterThanOrEqual(1_024)
    expect(port).toBeLessThan(32_768)
  }
  const [soon] = await freePorts(1)
  const taken = createServer().listen(soon! + 1, '127.0.0.1')
  // Somebody else may have it: then it is passed over for that reason.
  await Promise.race([once(taken, 'listening'), new Promise(resolve => taken.once('error', resolve))])
  expect(await freePorts(3)).not.toContain(soon! + 1)
  await new Promise(resolve => taken.close(resolve))
})
