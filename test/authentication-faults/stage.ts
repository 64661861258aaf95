import { afterAll, afterEach, beforeAll, vi } from 'vitest'
import { Background } from './background.ts'
import { FaultCluster, PATIENCE_MS } from './fault-cluster.ts'

/** What the cases of a file share. Set once `beforeAll` has run. */
export interface Stage {
  readonly cluster: FaultCluster
  readonly background: Background
}

/**
 * One cluster with its background for all cases of the calling file, which run one after the other and each leave it healthy. After each of
 * them nobody of the background has been disconnected and nothing that was acknowledged to it is missing.
 */
export function useFaultCluster(): Stage {
  let cluster: FaultCluster | undefined
  let background: Background | undefined
  vi.setConfig({ testTimeout: 2 * PATIENCE_MS, hookTimeout: 2 * PATIENCE_MS })
  beforeAll(async () => {
    cluster = await FaultCluster.start()
    background = await Background.start(cluster)
  })
  afterEach(async () => {
    await background?.check()
    const deaths = cluster?.deaths.splice(0) ?? []
    if (deaths.length > 0) throw new Error(deaths.join('; '))
  })
  afterAll(async () => {
    await background?.stop()
    await cluster?.close()
  })
  return {
    get cluster() {
      return started(cluster)
    },
    get background() {
      return started(background)
    },
  }
}

function started<T>(part: T | undefined): T {
  if (part === undefined) throw new Error('asked before it was started')
  return part
}
