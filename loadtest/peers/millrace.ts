import { existsSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { freePort } from './broker.ts'
import type { Peer } from './broker.ts'

const PROGRAM = fileURLToPath(new URL('../../bin/millrace.js', import.meta.url))

/** Millrace standalone with its defaults: the lmdb store, on disk. */
export const millrace: Peer = {
  name: 'Millrace',
  lacks: [],
  roundsMax: Number.POSITIVE_INFINITY,
  missing: () => (existsSync(PROGRAM) ? null : 'bin/millrace.js is not there yet'),
  async command({ port, directory }) {
    const address = async (): Promise<string> => `127.0.0.1:${await freePort()}`
    return [
      process.execPath,
      PROGRAM,
      'start',
      '--mqtt',
      `127.0.0.1:${port}`,
      '--ws',
      await address(),
      '--admin',
      await address(),
      '--metrics',
      await address(),
      '--data',
      path.join(directory, 'data'),
    ]
  },
}
