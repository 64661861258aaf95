import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { Peer } from './broker.ts'

/** Aedes with its in-memory persistence, which is its default: nothing is durable. */
export const aedes: Peer = {
  name: 'Aedes',
  lacks: ['shared'],
  missing() {
    try {
      createRequire(import.meta.url).resolve('aedes')
      return null
    } catch {
      return 'the npm package is not installed'
    }
  },
  async command({ port }) {
    return [process.execPath, fileURLToPath(new URL('./aedes-server.ts', import.meta.url)), String(port)]
  },
}
