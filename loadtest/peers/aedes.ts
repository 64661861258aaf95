import { createRequire } from 'node:module'
import { programBeside } from '../program.ts'
import { processPeer } from './broker.ts'

/** Aedes with its in-memory persistence, which is its default: nothing is durable. */
export const aedes = processPeer({
  name: 'Aedes',
  lacks: ['shared'],
  // It is there for orientation; the time is better spent on the two that are compared.
  roundsMax: 1,
  missing() {
    try {
      createRequire(import.meta.url).resolve('aedes')
      return null
    } catch {
      return 'the npm package is not installed'
    }
  },
  async command({ port }) {
    return [process.execPath, programBeside(import.meta.url, 'aedes-server'), String(port)]
  },
})
