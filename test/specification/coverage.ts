import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AUTHENTICATION } from './authentication-rows.ts'
import { AUTHORIZATION } from './authorization-rows.ts'
import { RESOURCES } from './resources-rows.ts'
import { TEST_FILES } from './test-files.ts'

/** Keeps docs/conformance-resources.md in step with the rows beside this file. Run by itself, it writes the tables of the page anew. */

const ROOT = join(import.meta.dirname, '../..')
const PAGE = join(ROOT, 'docs/conformance-resources.md')

/** One thing that the specifications ask for. */
export interface Row {
  /** `R-2.1-maxReceiveMaximum`: which text, which section of it, which line. Decisions: `D-7`. */
  readonly id: string
  readonly says: string
  /** Where it is done: files and folders. */
  readonly where: readonly string[]
  readonly proofs: readonly Proof[]
}

interface Proof {
  readonly file: string
  readonly titles: readonly string[]
}

/** By the name of the part of the page that they stand in. */
export const PARTS: ReadonlyMap<string, readonly Row[]> = new Map([
  ['resources', rowsOf(RESOURCES)],
  ['authentication', rowsOf(AUTHENTICATION)],
  ['authorization', rowsOf(AUTHORIZATION)],
])

/** A line each: `ID | says | where, where | FILE: title ;; title || FILE: title`, with short names of files (test-files.ts). */
function rowsOf(text: string): readonly Row[] {
  const lines = text.split('\n').filter(line => line.trim() !== '')
  return lines.map(line => {
    const [id, says, where, proofs, ...rest] = line.split(' | ')
    if (proofs === undefined || rest.length > 0) throw new Error(`no row: ${line}`)
    return { id: id!, says: says!, where: where!.split(', '), proofs: proofs.split(' || ').map(proof => proofOf(proof)) }
  })
}

function proofOf(text: string): Proof {
  const end = text.indexOf(': ')
  const name = text.slice(0, end)
  return { file: TEST_FILES.get(name) ?? name, titles: text.slice(end + 2).split(' ;; ') }
}

/** What the page or the tests do not bear out of `row`; empty when all is there. */
export function faultsOf({ id, says, where, proofs }: Row): readonly string[] {
  const lost = [...where, ...proofs.map(({ file }) => file)].filter(path => !existsSync(join(ROOT, path)))
  const untitled = proofs
    .filter(({ file }) => !lost.includes(file))
    .flatMap(({ file, titles }) => titles.filter(title => !hasTitle(file, title)).map(title => `${file}: no test ${title}`))
  return [
    ...(/^(?:[RAZ]-\d[\w.-]*|D-\d+[a-z]?)$/.test(id) && says.endsWith('.') ? [] : ['no row']),
    ...(proofs.length > 0 ? [] : ['no test']),
    ...lost.map(path => `there is no ${path}`),
    ...untitled,
  ].map(fault => `${id}: ${fault}`)
}

/** As the first thing in the parentheses of a call, or as one thing of a case in a table of tests. */
function hasTitle(file: string, title: string): boolean {
  const source = sourceOf(file)
  return ["'", '`', '"'].some(quote => {
    const literal = `${quote}${title}${quote}`
    for (let at = source.indexOf(literal); at >= 0; at = source.indexOf(literal, at + 1)) {
      const [before, behind] = [source.slice(0, at).trimEnd().at(-1), source.slice(at + literal.length).trimStart()[0]]
      if ((before === '(' || before === '[' || before === ',') && behind === ',') return true
    }
    return false
  })
}

const sources = new Map<string, string>()

function sourceOf(file: string): string {
  const known = sources.get(file) ?? readFileSync(join(ROOT, file), 'utf8')
  sources.set(file, known)
  return known
}

export function readPage(): string {
  return readFileSync(PAGE, 'utf8')
}

/** `page` with its tables made from the rows. */
export function withTables(page: string): string {
  let text = page
  for (const [part, rows] of PARTS) {
    const [begin, end] = [`<!-- rows: ${part} -->`, `<!-- end: ${part} -->`]
    const [from, to] = [text.indexOf(begin), text.indexOf(end)]
    if (from < 0 || to < from) throw new Error(`the page has no place for ${part}`)
    text = `${text.slice(0, from)}${begin}\n\n${tableOf(rows)}\n${text.slice(to)}`
  }
  return text
}

function tableOf(rows: readonly Row[]): string {
  const lines = rows.map(
    ({ id, says, where, proofs }) => `| ${id} | ${says} | ${where.map(linkTo).join(', ')} | ${proofs.map(shown).join('<br>')} |`,
  )
  return ['| Row | Asked for, in short | Where | Tests |', '| --- | --- | --- | --- |', ...lines, ''].join('\n')
}

function linkTo(path: string): string {
  return `[${path.split('/').slice(-2).join('/')}](../${path})`
}

function shown({ file, titles }: Proof): string {
  return `${linkTo(file)}: ${titles.map(title => title.replaceAll('|', '\\|').replaceAll('<', '&lt;')).join('; ')}`
}

if (import.meta.main) writeFileSync(PAGE, withTables(readPage()))
