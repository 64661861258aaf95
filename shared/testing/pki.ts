import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createPki } from '../config/pki.ts'

/** Contents of the files of a small public key infrastructure, PEM. */
export interface TestPki {
  readonly ca: Buffer
  readonly caKey: Buffer
  readonly serverCert: Buffer
  readonly serverKey: Buffer
  readonly clientCert: Buffer
  readonly clientKey: Buffer
}

/**
 * A CA, a server certificate for localhost, 127.0.0.1 and ::1, and a client certificate.
 * @param directory where the files go; without it they are gone when the promise is settled
 */
export async function createTestPki(directory?: string): Promise<TestPki> {
  const place = directory ?? (await mkdtemp(join(tmpdir(), 'millrace-test-pki-')))
  try {
    const files = await createPki(place)
    const read = [files.ca, files.caKey, files.serverCert, files.serverKey, files.clientCert, files.clientKey].map(file => readFile(file))
    const [ca, caKey, serverCert, serverKey, clientCert, clientKey] = (await Promise.all(read)) as [
      Buffer,
      Buffer,
      Buffer,
      Buffer,
      Buffer,
      Buffer,
    ]
    return { ca, caKey, serverCert, serverKey, clientCert, clientKey }
  } finally {
    if (directory === undefined) await rm(place, { recursive: true })
  }
}
