import { existsSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { processPeer } from './broker.ts'
import type { Peer } from './broker.ts'
import { freePort } from './server-process.ts'

export const PROGRAM = fileURLToPath(new URL('../../bin/millrace.js', import.meta.url))

export function missingMillrace(): string | null {
  return existsSync(PROGRAM) ? null : 'bin/millrace.js is not there yet'
}

function standalonePeer(name: string, flags: readonly string[]): Peer {
  return processPeer({
    name,
    lacks: [],
    roundsMax: Number.POSITIVE_INFINITY,
    missing: missingMillrace,
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
        ...flags,
      ]
    },
  })
}

/** Millrace standalone with its defaults: the lmdb store, on disk. */
export const millrace = standalonePeer('Millrace', [])

/** Millrace standalone that keeps nothing: what a cluster of level `memory` is compared with. */
export const standalone = standalonePeer('standalone', ['--store', 'memory'])
