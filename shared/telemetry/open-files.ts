import { readFileSync } from 'node:fs'
import type { Log } from './log.ts'

/** Files that are no connection: ports, store, logs, libraries, metrics and admin requests. */
const OTHER_FILES = 100

/** `text` is /proc/self/limits. Infinity for no limit, null when it does not say. */
export function openFilesMaxIn(text: string): number | null {
  const found = /^Max open files +(\d+|unlimited)/m.exec(text)?.[1]
  if (found === undefined) return null
  return found === 'unlimited' ? Infinity : Number(found)
}

/** Open files that this process may have; null where the system does not tell. Node has raised its soft limit to the hard one by now. */
export function openFilesMax(): number | null {
  try {
    return openFilesMaxIn(readFileSync('/proc/self/limits', 'utf8'))
  } catch {
    return null
  }
}

/**
 * Says when connections will fail for want of open files before `connectionsMax` is reached. A warning only when that is not the
 * default: nobody who tries the broker on a laptop needs so many.
 */
export function logOpenFilesLimit(
  log: Log,
  filesMax: number | null,
  connections: { readonly max: number; readonly default: number },
): void {
  if (filesMax === null || filesMax >= connections.max + OTHER_FILES) return
  const fields = { openFilesMax: filesMax, connectionsMax: connections.max }
  if (connections.max === connections.default) log.info('open_files_limit', fields)
  else log.warn('open_files_limit', fields)
}
