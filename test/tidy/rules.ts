import { posix } from 'node:path'
import { findCycles } from './cycles.ts'
import type { SourceFile, SyntaxNode } from './source-file.ts'

/** Where a file may import from, by the start of its path; the longest start that fits counts. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  'frontend/': ['frontend/', 'shared/'],
  'authsvc/': ['authsvc/', 'shared/'],
  'backend/': ['backend/', 'shared/'],
  'shared/': ['shared/'],
  'shared/base/': ['shared/base/'],
  'shared/mqtt/': ['shared/mqtt/', 'shared/base/'],
  'loadtest/': ['loadtest/', 'shared/base/', 'shared/mqtt/'],
  'deploy/': ['deploy/', 'shared/'],
  // A package of its own: it is installed where there is no Millrace.
  'client/': ['client/'],
  'bin/': ['bin/', 'frontend/', 'authsvc/', 'backend/', 'shared/', 'loadtest/', 'client/', 'package.json'],
}

const FUNCTION_LINES_MAX = 60
const FORBIDDEN_FOLDERS = ['utils', 'helpers', 'common', 'types']
const FUNCTION_TYPES = ['FunctionDeclaration', 'FunctionExpression', 'ArrowFunctionExpression']
const TIMER_MODULES = ['timers', 'node:timers', 'timers/promises', 'node:timers/promises']
const TEST_PACKAGES = /^(vitest|fast-check|@vitest)(\/|$)/

/** Written in two parts, so that this file does not break its own rule. */
const SILENCING = new RegExp(
  [
    'eslint-dis' + 'able',
    'oxlint-dis' + 'able',
    '@ts-ig' + 'nore',
    '@ts-noch' + 'eck',
    '@ts-exp' + 'ect-error',
    '(istanbul|c8|v8|node:coverage) ig' + 'nore',
    'biome-ig' + 'nore(?! format:)',
  ].join('|'),
)
const PLACES = new RegExp(
  [
    '(?<![\\w.~-])/(wo' + 'rk|ho' + 'me|ro' + 'ot|Use' + 'rs)/[\\w.]',
    'registry\\.npm' + 'js|npm' + 'js\\.org|registry\\.yarn' + 'pkg',
  ].join('|'),
)

/** `path:line: what is wrong` for every breach of the house rules in `files`. */
export function breaches(files: readonly SourceFile[]): readonly string[] {
  const known = new Set(files.map(file => file.path))
  return [...files.flatMap(file => fileBreaches(file)), ...cycleBreaches(files, known)].sort()
}

/** Rules that hold for any text: documents and scripts as well. */
export function textBreaches(path: string, text: string): readonly string[] {
  return text.split('\n').flatMap((line, index) => {
    const place = PLACES.exec(line)
    const silencing = /\.(ts|js|mjs)$/.test(path) ? SILENCING.exec(line) : null
    return [
      ...(place === null ? [] : [`${path}:${index + 1}: names a place that other machines do not have: ${place[0]}`]),
      ...(silencing === null ? [] : [`${path}:${index + 1}: silences a check (${silencing[0]}); mend what it found`]),
    ]
  })
}

function fileBreaches(file: SourceFile): readonly string[] {
  const at = (line: number, what: string): string => `${file.path}:${line}: ${what}`
  const found = [...pathBreaches(file).map(what => at(1, what)), ...importBreaches(file, at)]
  if (!file.isTest) for (const node of file.nodes) found.push(...nodeBreaches(file, node).map(what => at(file.lineAt(node.start), what)))
  return [...found, ...textBreaches(file.path, file.text)]
}

function pathBreaches(file: SourceFile): readonly string[] {
  const parts = file.path.split('/')
  const folder = parts.slice(0, -1).find(part => FORBIDDEN_FOLDERS.includes(part))
  return [
    ...(folder === undefined ? [] : [`a folder called ${folder} says nothing about what is in it`]),
    ...(parts.at(-1) === 'index.ts' ? ['index.ts: import the file that has the thing'] : []),
    ...(parts.every(part => /^[a-z\d]+((-|(?<=\d)\.(?=\d))[a-z\d]+)*(\.(test|bench|contract))?(\.ts)?$/.test(part))
      ? []
      : ['names of files and folders are kebab-case']),
  ]
}

function importBreaches(file: SourceFile, at: (line: number, what: string) => string): readonly string[] {
  return file.imports.flatMap(({ specifier, isExportAll, line }) => {
    const found: string[] = []
    const target = resolveImport(file.path, specifier)
    if (isExportAll) found.push(at(line, `export * from ${specifier}: import the file that has the thing`))
    if (target === null) {
      if (!file.isTest && TEST_PACKAGES.test(specifier)) found.push(at(line, `${specifier} is for tests`))
      return found
    }
    if (!/\.(ts|json)$/.test(target)) found.push(at(line, `${specifier} does not end in .ts`))
    if (specifier.startsWith('.') && target.startsWith('shared/') && file.top !== 'shared')
      found.push(at(line, `${specifier}: say #shared/…`))
    if (!mayImport(file, target)) found.push(at(line, `${file.top} must not import ${target}`))
    if (!file.isTest && target.startsWith('shared/testing/')) found.push(at(line, 'shared/testing is for tests'))
    if (!file.isTest && /\.(test|bench)\.ts$/.test(target)) found.push(at(line, `${specifier} is a test`))
    return found
  })
}

function mayImport(file: SourceFile, target: string): boolean {
  const rule = Object.keys(MAY_IMPORT)
    .filter(start => file.path.startsWith(start))
    .sort((a, b) => b.length - a.length)[0]
  if (rule === undefined) return true
  const isTestTool = file.isTest && target.startsWith('shared/testing/')
  return isTestTool || MAY_IMPORT[rule]!.some(start => target.startsWith(start))
}

/** Path from the root, or null for a package. */
function resolveImport(from: string, specifier: string): string | null {
  if (specifier.startsWith('#shared/')) return posix.join('shared', specifier.slice('#shared/'.length))
  return specifier.startsWith('.') ? posix.join(posix.dirname(from), specifier) : null
}

function nodeBreaches(file: SourceFile, node: SyntaxNode): readonly string[] {
  const member = memberName(node)
  // What is in deploy/ and client/ is there to be copied out: it has no shared/ to take a clock from.
  const isEdge = file.path.startsWith('shared/base/') || ['loadtest', 'deploy', 'client'].includes(file.top)
  const found: string[] = []
  if (!isEdge) {
    if (['Date.now', 'performance.now', 'process.hrtime', 'Math.random'].includes(member))
      found.push(`${member} belongs to shared/base: take a Clock or Random`)
    if (node.type === 'NewExpression' && nameOf(node['callee']) === 'Date' && (node['arguments'] as unknown[]).length === 0) {
      found.push('new Date() reads the clock: take a Clock')
    }
    const callee = node.type === 'CallExpression' ? nameOf(node['callee']) : ''
    if (['setTimeout', 'setInterval'].includes(callee)) found.push(`${callee} belongs to shared/base: take Timers`)
    if (importsTimer(node)) found.push('setTimeout and setInterval belong to shared/base: take Timers')
  }
  if (member === 'process.env' && file.top !== 'bin' && !file.path.endsWith('/main.ts')) found.push('process.env belongs to main.ts')
  if (member.startsWith('console.')) found.push('console: use the log, or write to process.stdout')
  if (FUNCTION_TYPES.includes(node.type)) {
    const lines = file.lineAt(node.end) - file.lineAt(node.start) + 1
    if (lines > FUNCTION_LINES_MAX) found.push(`a function of ${lines} lines; ${FUNCTION_LINES_MAX} fit a screen`)
  }
  return found
}

/** `setImmediate` passes: it waits for nothing but its turn. */
function importsTimer(node: SyntaxNode): boolean {
  if (!TIMER_MODULES.includes(String((node['source'] as SyntaxNode | undefined)?.['value']))) return false
  const names = ((node['specifiers'] ?? []) as readonly SyntaxNode[]).map(each => nameOf(each['imported'] ?? each['local']))
  return names.length === 0 || !names.every(name => name === 'setImmediate')
}

/** `Date.now` of that expression, else ''. */
function memberName(node: SyntaxNode): string {
  if (node.type !== 'MemberExpression' || node['computed'] === true) return ''
  return `${nameOf(node['object'])}.${nameOf(node['property'])}`
}

function nameOf(node: unknown): string {
  const found = node as SyntaxNode | undefined
  return found?.type === 'Identifier' ? String(found['name']) : ''
}

/** Imports that are gone at run time do no harm in a ring; the others make the order of loading matter. */
function cycleBreaches(files: readonly SourceFile[], known: ReadonlySet<string>): readonly string[] {
  const edges = new Map(
    files.map(file => [
      file.path,
      file.imports
        .filter(each => !each.isTypeOnly)
        .map(each => resolveImport(file.path, each.specifier) ?? '')
        .filter(target => known.has(target)),
    ]),
  )
  return findCycles(edges).map(cycle => `${cycle[0]!}:1: imports itself through ${cycle.slice(1).join(', ')}`)
}
