import { parseAst } from 'vitest/node'

/** Any node of the syntax tree; what a rule needs of it is asked for by name. */
export interface SyntaxNode {
  readonly type: string
  readonly start: number
  readonly end: number
  readonly [name: string]: unknown
}

export interface Import {
  readonly specifier: string
  /** Gone when types are stripped. */
  readonly isTypeOnly: boolean
  /** `export * from`. */
  readonly isExportAll: boolean
  readonly line: number
}

/** One source file of the repository, read as syntax. `path` is relative to the root, with `/`. */
export class SourceFile {
  readonly path: string
  readonly text: string
  readonly nodes: readonly SyntaxNode[]
  readonly imports: readonly Import[]

  /** Throws when `text` is no TypeScript. */
  constructor(path: string, text: string) {
    this.path = path
    this.text = text
    const nodes: SyntaxNode[] = []
    collect(parseAst(text, { lang: 'ts' }), nodes)
    this.nodes = nodes
    this.imports = nodes.flatMap(node => this.#importOf(node))
  }

  /** `frontend` of `frontend/listener/x.ts`. */
  get top(): string {
    return this.path.split('/', 1)[0]!
  }

  /** Runs under vitest or on behalf of it, never in a service. A contract is a suite that several implementations share. */
  get isTest(): boolean {
    return /\.(test|bench|contract)\.ts$/.test(this.path) || this.top === 'test' || this.path.startsWith('shared/testing/')
  }

  lineAt(offset: number): number {
    let line = 1
    for (let at = this.text.indexOf('\n'); at !== -1 && at < offset; at = this.text.indexOf('\n', at + 1)) line++
    return line
  }

  #importOf(node: SyntaxNode): readonly Import[] {
    const source = node['source'] as SyntaxNode | null | undefined
    if (typeof source?.['value'] !== 'string') return []
    const specifiers = (node['specifiers'] ?? []) as readonly SyntaxNode[]
    const kind = node['importKind'] ?? node['exportKind']
    const isTypeOnly =
      kind === 'type' ||
      node.type === 'TSImportType' ||
      (specifiers.length > 0 && specifiers.every(each => (each['importKind'] ?? each['exportKind']) === 'type'))
    return [{ specifier: source['value'], isTypeOnly, isExportAll: node.type === 'ExportAllDeclaration', line: this.lineAt(node.start) }]
  }
}

function collect(root: unknown, into: SyntaxNode[]): void {
  const pending: unknown[] = [root]
  while (pending.length > 0) {
    const value = pending.pop()
    if (Array.isArray(value)) pending.push(...(value as unknown[]))
    else if (isNode(value)) {
      into.push(value)
      pending.push(...Object.values(value).filter(child => typeof child === 'object' && child !== null))
    }
  }
}

function isNode(value: unknown): value is SyntaxNode {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string'
}
