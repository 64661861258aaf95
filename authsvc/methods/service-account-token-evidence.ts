import { createHash } from 'node:crypto'
import { z } from 'zod'

/** Digits of an audience's digest: audiences may be long, evidence may not. */
const DIGEST_LENGTH = 22
/** So many digests, two names of Kubernetes and a uid stay below 1 KiB. */
const AUDIENCES_MAX = 16
const UID_LENGTH_MAX = 128

const content = z.object({
  namespace: z.string(),
  name: z.string(),
  uid: z.string(),
  /** Digests of those for which the token was accepted. */
  audiences: z.array(z.string()),
})

/** Which service account a connection was let in as. */
export type AccountEvidence = z.infer<typeof content>

/** What is kept of an account that was let in for `audiences`: of these digests, so that all of it stays below EVIDENCE_BYTES_MAX. */
export function evidenceOf(account: { namespace: string; name: string; uid: string; audiences: readonly string[] }): AccountEvidence {
  const { namespace, name, uid, audiences } = account
  return {
    namespace,
    name,
    uid: uid.slice(0, UID_LENGTH_MAX),
    audiences: audiences.slice(0, AUDIENCES_MAX).map(each => audienceDigest(each)),
  }
}

/** As it travels with the frontend, sealed. */
export function writeEvidence(evidence: AccountEvidence): Uint8Array {
  return Buffer.from(JSON.stringify(evidence), 'utf8')
}

/** Null: not ours. */
export function readEvidence(bytes: Uint8Array | null): AccountEvidence | null {
  if (bytes === null) return null
  try {
    return content.safeParse(JSON.parse(Buffer.from(bytes).toString('utf8'))).data ?? null
  } catch {
    return null
  }
}

/** The same account, not another one that was created under its name. */
export function isSameAccount(a: AccountEvidence, b: AccountEvidence): boolean {
  return a.namespace === b.namespace && a.name === b.name && a.uid === b.uid
}

/** The same for the same audience, and short. */
export function audienceDigest(audience: string): string {
  return createHash('sha256').update(audience).digest('base64url').slice(0, DIGEST_LENGTH)
}
