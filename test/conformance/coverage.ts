import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Keeps docs/conformance-mqtt5.md and the titles of these tests in step. Run by itself, it writes the last column of the table anew. */

const HERE = import.meta.dirname
const PAGE = join(HERE, '../../docs/conformance-mqtt5.md')

/** A line of the table: one normative statement of MQTT 5.0. */
export interface Row {
  /** Such as MQTT-3.1.0-2. */
  clause: string
  binds: string
  statement: string
  /** The last column as it stands in the page. */
  proofs: string
}

export interface TitledTest {
  /** Name of the test file without `.test.ts`. */
  file: string
  /** Clauses in brackets in front of the title. */
  clauses: string[]
  /** The title behind them. */
  title: string
}

export function readPage(): string {
  return readFileSync(PAGE, 'utf8')
}

/** The lines of the table in `page`. */
export function readRows(page: string): Row[] {
  return page.split('\n').flatMap(line => {
    const cells = line.split(' | ')
    const clause = /^\| (MQTT-[\d.]+-\d+)$/.exec(cells[0] ?? '')?.[1]
    if (clause === undefined || cells.length !== 4) return []
    return [{ clause, binds: cells[1]!, statement: cells[2]!, proofs: cells[3]!.replace(/ ?\|$/, '') }]
  })
}

const TITLE = /\btest(?:\.\w+)*(?:\([^()]*\))?\(\s*'((?:[^'\\]|\\.)+)'/g

/** Every test of this folder, by its title in the source. */
export function readTests(): TitledTest[] {
  const files = readdirSync(HERE).filter(name => name.endsWith('.test.ts') && name !== 'coverage.test.ts')
  return files.sort(byNumbers).flatMap(name => {
    const source = readFileSync(join(HERE, name), 'utf8')
    return [...source.matchAll(TITLE)].map(match => {
      const whole = match[1]!
      const title = whole.replace(/^(?:\[MQTT-[\d.]+-\d+\] )+/, '')
      const front = whole.slice(0, whole.length - title.length)
      return { file: name.replace('.test.ts', ''), clauses: [...front.matchAll(/MQTT-[\d.]+-\d+/g)].map(each => each[0]), title }
    })
  })
}

/** 3.4 before 3.10. */
function byNumbers(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}

/** The last column of a clause's line: each test file with the titles that begin with the clause. */
export function proofsOf(clause: string, tests: TitledTest[]): string {
  const proving = tests.filter(test => test.clauses.includes(clause))
  const files = [...new Set(proving.map(test => test.file))]
  const titles = (file: string): string =>
    proving
      .filter(test => test.file === file)
      .map(test => test.title.replaceAll('|', '\\|'))
      .join('; ')
  return files.map(file => `[${file}](../test/conformance/${file}.test.ts): ${titles(file)}`).join('<br>') || '–'
}

/** `page` with the last column of its table made from `tests`. */
export function withProofs(page: string, tests: TitledTest[]): string {
  return page
    .split('\n')
    .map(line => {
      const row = readRows(line)[0]
      return row ? `| ${row.clause} | ${row.binds} | ${row.statement} | ${proofsOf(row.clause, tests)} |` : line
    })
    .join('\n')
}

if (import.meta.main) writeFileSync(PAGE, withProofs(readPage(), readTests()))
