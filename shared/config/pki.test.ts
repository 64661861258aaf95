import { X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { PkiError, createPki } from './pki.ts'

async function freshDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-pki-'))
  onTestFinished(() => rm(directory, { recursive: true }))
  return directory
}

test('server and client certificates are issued by the CA, for the names asked for', async () => {
  const directory = join(await freshDirectory(), 'new')
  const files = await createPki(directory, { serverNames: ['broker.example', '192.0.2.1', '::1'], clientName: 'dev-7' })
  const [ca, server, client] = await Promise.all(
    [files.ca, files.serverCert, files.clientCert].map(async file => new X509Certificate(await readFile(file))),
  )
  for (const leaf of [server!, client!]) {
    expect(leaf.checkIssued(ca!)).toBe(true)
    expect(leaf.verify(ca!.publicKey)).toBe(true)
    expect(leaf.ca).toBe(false)
  }
  expect(ca!.ca).toBe(true)
  expect(server!.checkHost('broker.example')).toBe('broker.example')
  expect(server!.checkIP('192.0.2.1')).toBe('192.0.2.1')
  expect(server!.checkIP('::1')).toBe('::1')
  expect(client!.subject).toBe('CN=dev-7')
  expect((await stat(files.serverKey)).mode & 0o077).toBe(0)
  const member = new X509Certificate(await readFile(files.memberCert))
  expect(member.checkIssued(new X509Certificate(await readFile(files.memberCa)))).toBe(true)
  expect([member.checkIP('192.0.2.1'), member.verify(ca!.publicKey)]).toEqual(['192.0.2.1', false])
  const names = ['ca', 'client', 'member', 'member-ca', 'server'].flatMap(name => [`${name}.crt`, `${name}.key`])
  expect((await readdir(directory)).sort()).toEqual(names.sort())
})

test('a name that would not stay a name in a configuration file is refused', async () => {
  const directory = await freshDirectory()
  await expect(createPki(directory, { serverNames: ['a\nb'] })).rejects.toBeInstanceOf(PkiError)
  await expect(createPki(directory, { clientName: 'a/O=other' })).rejects.toBeInstanceOf(PkiError)
})

test('without openssl the error says what is missing', async () => {
  const path = process.env['PATH']
  process.env['PATH'] = ''
  onTestFinished(() => void (process.env['PATH'] = path))
  await expect(createPki(await freshDirectory())).rejects.toThrow('the openssl command is not installed')
})
