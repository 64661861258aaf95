import { readdirSync, readFileSync } from 'node:fs'
import { extname, join, relative, sep } from 'node:path'
import { describe, expect, test } from 'vitest'
import { breaches, textBreaches } from './tidy/rules.ts'
import { SourceFile } from './tidy/source-file.ts'

const ROOT = join(import.meta.dirname, '..')
const FOLDERS = ['frontend', 'authsvc', 'backend', 'shared', 'loadtest', 'bin', 'deploy', 'client', 'test', 'scripts']
const TEXTS = ['.md', '.ts', '.js', '.mjs', '.json', '.yaml', '.yml', '.sh', '.html', '.css']
const NOT_OURS = ['node_modules', 'dist', 'data', 'coverage']

function pathsBelow(folder: string): readonly string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap(entry => {
    const path = join(folder, entry.name)
    if (NOT_OURS.includes(entry.name) || entry.name.startsWith('.')) return []
    return entry.isDirectory() ? pathsBelow(path) : [relative('.', path).split(sep).join('/')]
  })
}

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8')
}

test('the repository keeps its own rules', () => {
  const paths = pathsBelow('.')
  const sources = paths.filter(path => path.endsWith('.ts') && FOLDERS.includes(path.split('/', 1)[0]!))
  const others = paths.filter(path => !sources.includes(path) && TEXTS.includes(extname(path)))
  expect(sources.length).toBeGreaterThan(50)
  expect([
    ...breaches(sources.map(path => new SourceFile(path, read(path)))),
    ...others.flatMap(path => textBreaches(path, read(path))),
  ]).toEqual([])
})

describe('a breach is found', () => {
  function found(path: string, text: string): readonly string[] {
    return breaches([new SourceFile(path, text)])
  }

  test.each([
    ['frontend/a.ts', "import { x } from '../backend/b.ts'", 'frontend must not import backend/b.ts'],
    ['backend/a.ts', "import type { X } from '../frontend/b.ts'", 'backend must not import frontend/b.ts'],
    ['authsvc/a.ts', "const x = await import('../backend/b.ts')", 'authsvc must not import backend/b.ts'],
    ['shared/rpc/a.ts', "export { x } from '../../backend/b.ts'", 'shared must not import backend/b.ts'],
    ['shared/base/a.ts', "import { x } from '../mqtt/b.ts'", 'shared must not import shared/mqtt/b.ts'],
    ['shared/rpc/a.ts', "type X = import('../../bin/b.ts').X", 'shared must not import bin/b.ts'],
    ['loadtest/a.ts', "import { x } from '#shared/config/b.ts'", 'loadtest must not import shared/config/b.ts'],
    ['client/a.ts', "import { x } from '#shared/base/b.ts'", 'client must not import shared/base/b.ts'],
    ['frontend/a.ts', "import { x } from '../shared/base/b.ts'", 'say #shared/'],
    ['frontend/a.ts', "import { x } from './b.js'", 'does not end in .ts'],
    ['frontend/a.ts', "import { x } from '#shared/testing/b.ts'", 'shared/testing is for tests'],
    ['frontend/a.ts', "import { x } from './b.test.ts'", 'is a test'],
    ['frontend/a.ts', "import { x } from 'vitest'", 'vitest is for tests'],
    ['frontend/a.ts', "export * from './b.ts'", 'import the file that has the thing'],
    ['frontend/index.ts', 'export const x = 1', 'import the file that has the thing'],
    ['frontend/utils/a.ts', 'export const x = 1', 'a folder called utils'],
    ['frontend/aFile.ts', 'export const x = 1', 'kebab-case'],
    ['frontend/a.ts', 'export const x = () => Date.now()', 'Date.now belongs to shared/base'],
    ['frontend/a.ts', 'export const x = performance.now()', 'performance.now belongs to shared/base'],
    ['frontend/a.ts', 'export const x = Math.random()', 'Math.random belongs to shared/base'],
    ['frontend/a.ts', 'export const x = new Date()', 'new Date() reads the clock'],
    ['frontend/a.ts', 'setTimeout(() => undefined, 1)', 'setTimeout belongs to shared/base'],
    ['frontend/a.ts', "import { setTimeout as sleep } from 'node:timers/promises'", 'belong to shared/base'],
    ['frontend/a.ts', "export const x = process.env['X']", 'process.env belongs to main.ts'],
    ['frontend/a.ts', "console.log('x')", 'console: use the log'],
    ['frontend/a.ts', `export function x() {${'\n'.repeat(60)}}`, 'a function of 61 lines'],
    ['frontend/a.ts', `export class X { m() {${'\n'.repeat(60)}} }`, 'a function of 61 lines'],
    ['frontend/a.test.ts', `// ${'@ts-ig'}${'nore'}`, 'silences a check'],
    ['frontend/a.ts', `// ${'oxlint-dis'}${'able'}-line`, 'silences a check'],
    ['frontend/a.ts', `/* v8 ${'ig'}${'nore'} next */`, 'silences a check'],
    ['frontend/a.ts', `export const x = '/${'ho'}${'me'}/somebody/x'`, 'names a place'],
    ['docs/a.ts', `export const x = 'https://registry.npm${'js'}.org/x'`, 'names a place'],
  ])('%s: %s', (path, text, message) => {
    const all = found(path, text)
    expect(all).toHaveLength(1)
    expect(all[0]).toContain(message)
    expect(all[0]).toMatch(new RegExp(`^${path.replaceAll('.', '\\.')}:1: `))
  })

  test('a ring of imports, whatever its length, unless it is of types', () => {
    const ring = (kind: string): readonly string[] =>
      breaches([
        new SourceFile('shared/base/a.ts', "import { b } from './b.ts'"),
        new SourceFile('shared/base/b.ts', "import { c } from './c.ts'"),
        new SourceFile('shared/base/c.ts', `import ${kind}{ a } from './a.ts'`),
      ])
    expect(ring('')).toEqual(['shared/base/a.ts:1: imports itself through shared/base/b.ts, shared/base/c.ts'])
    expect(ring('type ')).toEqual([])
  })

  test.each([
    ['shared/base/clock.ts', 'export const x = () => Date.now()'],
    ['deploy/a.ts', 'export const x = () => Date.now()'],
    ['loadtest/a.ts', 'setTimeout(() => performance.now(), 1)'],
    ['frontend/a.test.ts', "import { x } from '#shared/testing/b.ts'; console.log(Math.random())"],
    ['frontend/a.ts', "import { setImmediate as nextTurn } from 'node:timers/promises'"],
    ['test/conformance/3.10-unsubscribe.test.ts', 'export const x = 1'],
    ['frontend/main.ts', "export const x = process.env['X']"],
    ['bin/a.ts', "import { x } from '../backend/b.ts'; import { y } from '../frontend/c.ts'; import { z } from '#shared/base/d.ts'"],
    ['frontend/a.ts', "import { z } from 'zod'; export const at = new Date(0); export const text = 'Date.now() setTimeout()'"],
    ['frontend/a.ts', `// biome-${'ig'}${'nore'} format: a table\nexport const x = 1`],
    ['frontend/a.ts', `export class X {${'\n'.repeat(100)}}`],
  ])('and no breach is seen in %s: %s', (path, text) => {
    expect(found(path, text)).toEqual([])
  })
})
