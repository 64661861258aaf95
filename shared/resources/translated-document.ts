import { type FieldPath, FINDINGS_MAX, ResourceDocument } from './resource-document.ts'

type Fields = Record<string, unknown>

/** A document in today's names, which speaks of each field where, and as, it was written. */
class TranslatedDocument extends ResourceDocument {
  readonly value: unknown
  readonly #original: ResourceDocument
  readonly #moves: Moves

  constructor(value: unknown, original: ResourceDocument, moves: Moves) {
    super()
    this.value = value
    this.#original = original
    this.#moves = moves
  }

  override whereOf(path: FieldPath): string {
    return this.#original.whereOf(writtenAt(this.#moves, path))
  }

  override fault(path: FieldPath, message: string): string {
    return this.#original.fault(writtenAt(this.#moves, path), message)
  }
}

/** Where fields were written that stand elsewhere now, by `keyOf` their present place. */
type Moves = ReadonlyMap<string, FieldPath>

function keyOf(path: FieldPath): string {
  return path.map(String).join('\0')
}

/** Where a field was written that stands at `path` now: as the longest part of its path says that was moved. */
function writtenAt(moves: Moves, path: FieldPath): FieldPath {
  if (moves.size === 0) return path
  for (let length = path.length; length > 0; length--) {
    const from = moves.get(keyOf(path.slice(0, length)))
    if (from !== undefined) return [...from, ...path.slice(length)]
  }
  return path
}

/** What is renamed, moved and dropped in one document. The document itself stays as it is: only what leads to a change is copied. */
export class Translation {
  readonly warnings: string[] = []
  readonly faults: string[] = []
  readonly #original: ResourceDocument
  readonly #moves = new Map<string, FieldPath>()
  readonly #root: Fields
  /** Of `spec`; null when the document has none. */
  readonly spec: TranslatedFields | null

  constructor(document: ResourceDocument) {
    this.#original = document
    this.#root = isFields(document.value) ? { ...document.value } : {}
    this.spec = new TranslatedFields(this, this.#root, [], []).child('spec')
  }

  /** Today's document; the same one when nothing was changed. */
  get document(): ResourceDocument {
    const isChanged = this.#moves.size + this.warnings.length > 0
    return isChanged ? new TranslatedDocument(this.#root, this.#original, this.#moves) : this.#original
  }

  warn(writtenAt: FieldPath, message: string): void {
    if (this.warnings.length < FINDINGS_MAX) this.warnings.push(this.#original.fault(writtenAt, message))
  }

  fault(writtenAt: FieldPath, message: string): void {
    if (this.faults.length < FINDINGS_MAX) this.faults.push(this.#original.fault(writtenAt, message))
  }

  moved(from: FieldPath, to: FieldPath): void {
    this.#moves.set(keyOf(to), from)
  }

  writtenAt(path: FieldPath): FieldPath {
    return writtenAt(this.#moves, path)
  }
}

/** The fields of one object on their way to today's names. */
export class TranslatedFields {
  readonly fields: Fields
  readonly #translation: Translation
  /** Where it stands now, and where it was written. */
  readonly #path: FieldPath
  readonly #writtenAt: FieldPath

  /** @param fields are changed in place */
  constructor(translation: Translation, fields: Fields, path: FieldPath, writtenAt: FieldPath) {
    this.#translation = translation
    this.fields = fields
    this.#path = path
    this.#writtenAt = writtenAt
  }

  has(name: string): boolean {
    return Object.hasOwn(this.fields, name)
  }

  /** The value of a field that was written; undefined without it. */
  get(name: string): unknown {
    return this.has(name) ? this.fields[name] : undefined
  }

  /** `old` is the old name of `now`. Answers whether there was one. */
  rename(old: string, now: string, read: (value: unknown) => unknown = value => value): boolean {
    if (!this.has(old)) return false
    if (this.has(now)) {
      this.fault(old, `is an old name of ${now}, which is given too; keep ${now}`)
      return false
    }
    this.warn(old, `is an old name; write ${now}`)
    this.#translation.moved([...this.#writtenAt, old], [...this.#path, now])
    this.fields[now] = read(this.fields[old])
    delete this.fields[old]
    return true
  }

  /** A field that no longer exists. */
  drop(name: string, why: string): void {
    if (!this.has(name)) return
    this.warn(name, why)
    delete this.fields[name]
  }

  /** What was written as `old` here stands at `now`, seen from here. */
  put(old: string, now: FieldPath): void {
    this.#translation.moved([...this.#writtenAt, old], [...this.#path, ...now])
  }

  /** The fields of an object that stands in this one; null when there is none. */
  child(name: string): TranslatedFields | null {
    const value = this.get(name)
    if (!isFields(value)) return null
    const copy = { ...value }
    this.fields[name] = copy
    return this.#within(copy, [name])
  }

  /** The objects of a list. */
  children(name: string): readonly TranslatedFields[] {
    const value = this.get(name)
    if (!Array.isArray(value)) return []
    const copies: readonly unknown[] = value.map((item: unknown) => (isFields(item) ? { ...item } : item))
    this.fields[name] = copies
    return copies.flatMap((copy, index) => (isFields(copy) ? [this.#within(copy, [name, index])] : []))
  }

  warn(name: string, message: string): void {
    this.#translation.warn([...this.#writtenAt, name], message)
  }

  fault(name: string, message: string): void {
    this.#translation.fault([...this.#writtenAt, name], message)
  }

  #within(fields: Fields, under: FieldPath): TranslatedFields {
    const path = [...this.#path, ...under]
    return new TranslatedFields(this.#translation, fields, path, this.#translation.writtenAt(path))
  }
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
