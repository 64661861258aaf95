import { isPasswordOf, type PasswordHash } from '../credentials/password-hash.ts'

export interface PasswordCheck {
  readonly kept: PasswordHash
  readonly password: Uint8Array
}

/** For a worker thread: whether `password` is the one that is kept. */
export function checkPasswordTask({ kept, password }: PasswordCheck): boolean {
  return isPasswordOf(kept, password)
}
