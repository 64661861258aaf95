import { describe, expect, test } from 'vitest'
import { openLog } from './log.ts'
import { logOpenFilesLimit, openFilesMax, openFilesMaxIn } from './open-files.ts'

const LIMITS = `Limit                     Soft Limit           Hard Limit           Units
Max processes             63432                63432                processes
Max open files            1024                 524288               files
Max locked memory         unlimited            unlimited            bytes
`

describe('limit of open files', () => {
  test('is the soft one of /proc/self/limits', () => {
    expect(openFilesMaxIn(LIMITS)).toBe(1_024)
    expect(openFilesMaxIn(LIMITS.replace('1024 ', 'unlimited '))).toBe(Infinity)
    expect(openFilesMaxIn('')).toBeNull()
  })

  test.runIf(process.platform === 'linux')('is found on this system', () => {
    expect(openFilesMax()).toBeGreaterThan(0)
  })

  test.each<[filesMax: number | null, connectionsMax: number, level: string | null]>([
    [1_099, 1_000, 'warn'],
    [1_100, 1_000, null],
    [1_099, 1_000_000, 'warn'],
    [1_099, 100_000, 'info'],
    [100_100, 100_000, null],
    [Infinity, 10_000_000, null],
    [null, 100_000, null],
  ])('%s open files for %i connections: %s', (filesMax, connectionsMax, level) => {
    const lines: unknown[] = []
    const log = openLog('info', line => lines.push(JSON.parse(line)))
    logOpenFilesLimit(log, filesMax, { max: connectionsMax, default: 100_000 })
    const line = { level, event: 'open_files_limit', openFilesMax: filesMax, connectionsMax }
    expect(lines).toEqual(level === null ? [] : [expect.objectContaining(line)])
  })
})
