import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readPlainYaml } from './plain-yaml.ts'
import { PLAIN_CHARS_MIN, parseYaml, readYaml } from './yaml-document.ts'

/** What the library makes of it; null when it finds a fault. */
function byLibrary(source: string): readonly unknown[] | null {
  const faults: string[] = []
  const documents = parseYaml('file.yaml', source, faults)
  return faults.length > 0 ? null : documents.map(({ value }) => value)
}

const POLICY = `# who may what
apiVersion: mqttbroker.iotoperations.azure.com/v1
kind: BrokerAuthorization
metadata:
  name: plant
spec:
  authorizationPolicies:
    cache: Enabled
    rules:
      - principals:
          usernames: [supervisor, 'a, b', "c: d"]
          attributes:
          - organization: contoso
            city: 'new york'
          # another one
          - organization: it''s
            floor: 12
        brokerResources:
          - method: Connect
            clientIds: ['{principal.attributes.organization}-*']
          - method: Publish
            topics:
              - telemetry/{x}
              - 'telemetry/{principal.clientId}/#'
---
kind: Other
list:
- - a
  - b
-   c: d
    e: http://host:80/x
`
  .replace('telemetry/{x}', 'telemetry/x')
  .replace("it''s", "'it''s'")

const PIECES =
  `a|b|c d|true|12|1e3|0|-|- |- a|- - b|a: |a:|b: |b:|kind: |'x'|'it''s'|"y"|"|'|[a, b]|['a,b', c]|[a|]|{a: b}|#| # c|:|::|x:y|---|...|>|&a|*a|!t|?|~|%|@|,`
    .split('|')
    .concat('|', '`')

describe('what is read without the library', () => {
  test('is what the library reads', () => {
    const plain = readPlainYaml(POLICY)
    expect(plain?.map(({ value }) => value)).toEqual(byLibrary(POLICY))
    expect(plain).toHaveLength(2)
  })

  test.each([
    ['a tag', 'a: !!str 1'],
    ['an anchor', 'a: &x b'],
    ['an alias', 'a: *x'],
    ['a block scalar', 'a: |\n  b'],
    ['text on two lines', 'a: b\n  c'],
    ['quoted text on two lines', "a: 'b\n  c'"],
    ['nothing', 'a:'],
    ['nothing in between', 'a:\nb: c'],
    ['an empty item', '- a\n-'],
    ['a number with a fraction', 'a: 1.5'],
    ['a number in hexadecimal', 'a: 0x10'],
    ['a number with leading zeros', 'a: 010'],
    ['a negative number', 'a: -1'],
    ['infinity', 'a: .inf'],
    ['null', 'a: Null'],
    ['true', 'a: TRUE'],
    ['false in brackets', 'a: [false]'],
    ['a tilde', 'a: ~'],
    ['a map in braces', 'a: { b: c }'],
    ['brackets in brackets', 'a: [[b]]'],
    ['brackets without entries', 'a: []'],
    ['a pair in brackets', 'a: [b: c]'],
    ['a comment behind a value', 'a: b # c'],
    ['a comment behind a field', 'a: # c\n  b: c'],
    ['a quoted field', "'a': b"],
    ['a field that is true', 'true: b'],
    ['a field twice', 'a: b\na: c'],
    ['a field that JavaScript knows', '__proto__: b'],
    ['an escape', 'a: "\\n"'],
    ['a tab', 'a:\tb'],
    ['a carriage return', 'a: b\r\nc: d'],
    ['letters of another script', 'a: \u00e9'],
    ['a directive', '%YAML 1.2\n---\na: b'],
    ['an end of a document', 'a: b\n...'],
    ['a document that begins on the line of its mark', '--- a'],
    ['a blank behind a value', 'a: b '],
    ['a field that is not as deep as the others', '  a: b\n c: d'],
    ['a field that is deeper than the others', 'a: b\n c: d'],
    ['a list that is not as deep as its field', '  a:\n - b'],
    ['a list behind a field', 'a: - b'],
    ['a list alone', '- a'],
    ['text alone', 'a'],
    ['a field without a name', ': a'],
    ['a question', '? a\n: b'],
    ['a field too long for a line', `${'a'.repeat(1_100)}: b`],
    ['brackets that do not end', 'a: [b'],
    ['something behind brackets', 'a: [b] c'],
    ['a quote that does not end', "a: 'b"],
    ['nested without end', Array.from({ length: 40 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n')],
  ])('leaves %s to the library', (_, text) => {
    expect(readPlainYaml(text)).toBeNull()
  })

  test('all examples: the same, or left to the library', () => {
    const directory = join(import.meta.dirname, '../../docs/examples')
    const files = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.yaml'))
    expect(files.length).toBeGreaterThan(3)
    for (const file of files) {
      const source = readFileSync(join(directory, file), 'utf8')
      const plain = readPlainYaml(source)
      if (plain !== null) expect(plain.map(({ value }) => value)).toEqual(byLibrary(source))
    }
  })

  test('lines put together at random: the same, or left to the library', () => {
    const piece = fc.constantFrom(...PIECES)
    const line = fc
      .tuple(fc.integer({ min: 0, max: 6 }), fc.array(piece, { maxLength: 3 }))
      .map(([indent, all]) => ' '.repeat(indent) + all.join(''))
    let read = 0
    fc.assert(
      fc.property(fc.array(line, { maxLength: 8 }), lines => {
        const source = lines.join('\n')
        const plain = readPlainYaml(source)
        if (plain === null) return
        read++
        expect(plain.map(({ value }) => value)).toEqual(byLibrary(source))
      }),
      { numRuns: 20_000, seed: 4 },
    )
    expect(read).toBeGreaterThan(100)
  })

  test('documents of the kind that it is for, whatever is in them', () => {
    const name = fc.constantFrom('a', 'b', 'clientIds', 'x.y/z-1', 'method')
    const word = fc.constantFrom('x', 'a/b', '{t}', '#', 'it is', "it's", 'no', 'null', '5', 'a:b', 'a, b', '')
    const quoted = word.map(text => `'${text.replaceAll("'", "''")}'`)
    const scalar = fc.oneof(quoted, fc.constantFrom('plain', 'a/b/c', 'http://h:1', '7', 'two words', '$SYS/x', '"d"'))
    const value: fc.Arbitrary<unknown> = fc.letrec(tie => ({
      value: fc.oneof(
        { maxDepth: 4 },
        scalar,
        fc.array(scalar, { minLength: 1, maxLength: 3 }).map(all => new Brackets(all)),
        fc.array(tie('value'), { minLength: 1, maxLength: 3 }),
        fc.dictionary(name, tie('value'), { minKeys: 1, maxKeys: 3 }),
      ),
    })).value!
    const root = fc.dictionary(name, value, { minKeys: 1, maxKeys: 4 })
    let read = 0
    fc.assert(
      fc.property(fc.array(root, { minLength: 1, maxLength: 3 }), fc.boolean(), (roots, isDeep) => {
        const source = roots.map(one => written(one, 0, isDeep).join('\n')).join('\n---\n')
        const plain = readPlainYaml(source)
        if (plain === null) return
        read++
        expect(plain.map(one => one.value)).toEqual(byLibrary(source))
      }),
      { numRuns: 2_000, seed: 4 },
    )
    expect(read).toBeGreaterThan(300)
  })
})

describe('a long file', () => {
  const long = `# many\n${POLICY.split('---')[0]!}${'# filler\n'.repeat(PLAIN_CHARS_MIN / 9)}`

  test('says where its fields stand, the deep ones as well', () => {
    const [plain, parsed] = [readYaml('file.yaml', long, []), parseYaml('file.yaml', long, [])]
    expect(readPlainYaml(long)).not.toBeNull()
    const paths = [
      [],
      ['kind'],
      ['metadata'],
      ['metadata', 'name'],
      ['spec', 'nowhere'],
      ['spec', 'authorizationPolicies', 'rules', 0, 'brokerResources', 1, 'topics'],
    ]
    for (const path of paths) expect(plain[0]!.whereOf(path)).toBe(parsed[0]!.whereOf(path))
  })

  test('with a fault is the library’s to judge', () => {
    const faults: string[] = []
    expect(readYaml('file.yaml', `${long}kind: again\n`, faults)).toEqual([])
    expect(faults[0]).toMatch(/Map keys must be unique/)
  })
})

class Brackets {
  readonly text: string
  constructor(all: readonly string[]) {
    this.text = `[${all.join(', ')}]`
  }
}

/** Lines of block style; lists as deep as their field, or deeper. */
function written(value: unknown, indent: number, isDeep: boolean): string[] {
  const blank = ' '.repeat(indent)
  if (Array.isArray(value)) {
    return value.flatMap(item => {
      const [first, ...rest] = written(item, indent + 2, isDeep)
      return [`${blank}- ${first!.trimStart()}`, ...rest]
    })
  }
  if (typeof value !== 'object' || value === null || value instanceof Brackets) return [`${blank}${textOf(value)}`]
  return Object.entries(value).flatMap(([name, field]) => {
    if (typeof field !== 'object' || field === null || field instanceof Brackets) return [`${blank}${name}: ${textOf(field)}`]
    return [`${blank}${name}:`, ...written(field, indent + (Array.isArray(field) && !isDeep ? 0 : 2), isDeep)]
  })
}

function textOf(value: unknown): string {
  return value instanceof Brackets ? value.text : String(value)
}
