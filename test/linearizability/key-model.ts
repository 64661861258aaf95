import type { Action, Operation, Result, Version } from './history.ts'

/** One key as the store may have it. Values are shared between states and never written to. */
export interface KeyState {
  readonly entry: KeyEntry | null
  /** The greatest version that the key is known to have had: it outlives the entry. */
  readonly floor: Version
}

export interface KeyEntry {
  readonly value: string
  /** Null: of a SET without answer; the first answer that names it tells. */
  readonly version: Version
  readonly token: Version
  /** Between these times it ends by itself. */
  readonly expiresFromMs: number
  readonly expiresToMs: number
  /** Which operation wrote it; tells states apart. */
  readonly writer: number
}

export const EMPTY: KeyState = { entry: null, floor: null }

/** Two clocks that both count milliseconds, one of them rounding, differ by no more. */
export const CLOCK_SLACK_MS = 3

/** Below zero when `a` is older. */
export function compareVersions(a: string, b: string): number {
  const [wallA, counterA, nodeA] = a.split(':')
  const [wallB, counterB, nodeB] = b.split(':')
  return Number(wallA) - Number(wallB) || Number(counterA) - Number(counterB) || (nodeA! < nodeB! ? -1 : nodeA! > nodeB! ? 1 : 0)
}

/**
 * What the key may be after the operation, if it is done now; nothing when its answer cannot be. An entry whose time may be over is taken
 * for both.
 * @param index of the operation
 * @param nowMs no earlier than this it is done
 * @param slackMs so much may the store's clock be off
 */
export function statesAfter(
  state: KeyState,
  operation: Operation,
  index: number,
  nowMs: number,
  slackMs: number = CLOCK_SLACK_MS,
): readonly KeyState[] {
  const { entry } = state
  if (entry === null) return after(state, operation, index)
  const mayBeThere = nowMs <= entry.expiresToMs + slackMs
  const mayBeGone = entry.expiresFromMs !== Infinity && operation.returnedMs >= entry.expiresFromMs - slackMs
  return [
    ...(mayBeThere ? after(state, operation, index) : []),
    ...(mayBeGone ? after({ entry: null, floor: state.floor }, operation, index) : []),
  ]
}

function after(state: KeyState, operation: Operation, index: number): readonly KeyState[] {
  const { action, result } = operation
  const outcome = outcomeOf(state, action)
  if (result === null) return outcome === 'done' && action.is !== 'get' ? [changed(state, operation, index, null)] : []
  if (result.is !== outcome) return []
  switch (result.is) {
    case 'value': {
      if (state.entry?.value !== result.value) return []
      return named(state, result.version)
    }
    case 'differs':
      return named(state, result.version)
    case 'done': {
      if (action.is !== 'set') return named(state, result.version).map(({ floor }) => ({ entry: null, floor }))
      return isRising(state.floor, result.version) ? [changed(state, operation, index, result.version)] : []
    }
    default:
      return [state]
  }
}

function outcomeOf({ entry }: KeyState, action: Action): Result['is'] {
  if (action.is === 'get') return entry === null ? 'missing' : 'value'
  if (entry === null) return action.is === 'set' ? 'done' : 'missing'
  if (entry.token !== null) {
    if (action.token === null) return 'tokenRequired'
    if (compareVersions(action.token, entry.token) < 0) return 'tokenOutdated'
  }
  if (action.is === 'set') {
    const isMet = action.condition === null || (action.condition === 'NEX' && action.value === entry.value)
    return isMet ? 'done' : 'differs'
  }
  return action.is === 'del' || action.value === entry.value ? 'done' : 'differs'
}

function changed({ floor }: KeyState, { action, invokedMs, returnedMs }: Operation, writer: number, version: Version): KeyState {
  if (action.is !== 'set') return { entry: null, floor }
  const { value, token, pxMs } = action
  const entry: KeyEntry = {
    value,
    version,
    token,
    expiresFromMs: pxMs === null ? Infinity : invokedMs + pxMs,
    expiresToMs: pxMs === null ? Infinity : returnedMs + pxMs,
    writer,
  }
  return { entry, floor: version ?? floor }
}

/** The answer names the version of the entry: it is that one, or it was not known and now is. */
function named(state: KeyState, version: Version): readonly KeyState[] {
  const entry = state.entry!
  if (version === null) return [state]
  if (entry.version !== null) return entry.version === version ? [state] : []
  return isRising(state.floor, version) ? [{ entry: { ...entry, version }, floor: version }] : []
}

function isRising(floor: Version, version: Version): boolean {
  return floor === null || version === null || compareVersions(version, floor) > 0
}
