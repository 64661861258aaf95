import type { Peer, RunningBroker } from './broker.ts'

/** One broker under several names, so that a row can give it several things to do in turn: what is compared happens in the same warm process. */
export function sameProcess(peer: Peer, names: readonly string[]): readonly Peer[] {
  let shared: { readonly started: Promise<RunningBroker>; users: number } | null = null
  const begin = async (): Promise<RunningBroker> => {
    const mine = (shared ??= { started: peer.start(false), users: 0 })
    mine.users++
    try {
      return await mine.started
    } catch (error) {
      if (shared === mine) shared = null
      throw error
    }
  }
  const release = async (): Promise<void> => {
    if (shared === null || --shared.users > 0) return
    const { started } = shared
    shared = null
    await (await started).stop()
  }
  return names.map(name => ({
    name,
    lacks: peer.lacks,
    roundsMax: peer.roundsMax,
    missing: () => peer.missing(),
    start: async () => ({ ...(await begin()), name, stop: release }),
  }))
}
