import { randomBytes } from 'node:crypto'
import { FakeBroker } from './fake-broker.contract.ts'

/** The broker that tests talk to: the one that STATE_STORE_UNDER_TEST names, or else a fake of this process. */
export interface StoreUnderTest extends AsyncDisposable {
  readonly url: string
}

export async function openStoreUnderTest(): Promise<StoreUnderTest> {
  const url = process.env['STATE_STORE_UNDER_TEST']
  if (url === undefined || url === '') return FakeBroker.start()
  return { url, [Symbol.asyncDispose]: async () => undefined }
}

/** A name that no other test, and no earlier run, has used. */
export function freshName(what: string): string {
  return `${what}-${randomBytes(6).toString('hex')}`
}
