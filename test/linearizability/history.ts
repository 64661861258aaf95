/** A version, as text with padded numbers: it sorts like the clock. Null: the answer had none. */
export type Version = string | null

/** What a client asked for. Values are texts; in a history each SET writes one that no other writes. */
export type Action =
  | {
      readonly is: 'set'
      readonly value: string
      readonly condition: 'NX' | 'NEX' | null
      /** Its entry may be gone by itself from `pxMs` after the invocation on, and is gone `pxMs` after the response. */
      readonly pxMs: number | null
      readonly token: Version
    }
  | { readonly is: 'get' }
  | { readonly is: 'del'; readonly token: Version }
  | { readonly is: 'vdel'; readonly value: string; readonly token: Version }

/** What the store answered. */
export type Result =
  | { readonly is: 'done'; readonly version: Version }
  /** SET: the condition was not met. VDEL: another value. */
  | { readonly is: 'differs'; readonly version: Version }
  | { readonly is: 'value'; readonly value: string; readonly version: Version }
  /** GET, DEL, VDEL: no entry. */
  | { readonly is: 'missing' }
  | { readonly is: 'tokenRequired' }
  | { readonly is: 'tokenOutdated' }

export interface Operation {
  readonly client: string
  readonly key: string
  readonly action: Action
  /** Milliseconds on the clock of the driver. */
  readonly invokedMs: number
  /** Infinity: nobody knows whether it happened. */
  readonly returnedMs: number
  /** Null as long as it is not known. */
  readonly result: Result | null
}

/** One line per operation, to read. */
export function lineOf({ client, key, action, invokedMs, returnedMs, result }: Operation): string {
  const at = `${invokedMs.toFixed(3)}..${returnedMs === Infinity ? '?' : returnedMs.toFixed(3)}`
  return `${at} ${client} ${key} ${wordsOf(action)} -> ${result === null ? 'unknown' : wordsOf(result)}`
}

function wordsOf(record: Action | Result): string {
  return Object.values(record)
    .filter(each => each !== null)
    .join(' ')
}
