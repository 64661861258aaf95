export interface Deferred {
  readonly promise: Promise<void>
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** A promise and its ends. `Promise.withResolvers` is missing in Node 20. */
export function deferred(): Deferred {
  let ends: Omit<Deferred, 'promise'> | undefined
  const promise = new Promise<void>((resolve, reject) => {
    ends = { resolve, reject }
  })
  return { promise, ...ends! }
}
