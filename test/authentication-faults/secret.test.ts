import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { createPki } from '#shared/config/pki.ts'
import { freePort } from '#shared/testing/free-ports.ts'
import { startRedis, until } from '#shared/testing/redis-server.ts'

const ROOT = join(import.meta.dirname, '../..')

test('without a cluster key the service waits for Redis, takes the secret of the cluster from there, and serves', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-secret-'))
  onTestFinished(() => rm(directory, { recursive: true, force: true }))
  const { memberCert, memberKey, memberCa } = await createPki(directory)
  const redis = await startRedis()
  onTestFinished(() => redis.dispose())
  await redis.kill()
  const metrics = `127.0.0.1:${await freePort()}`
  const flags = {
    '--redis': redis.url,
    '--id': 'a-0',
    '--rpc': '127.0.0.1:0',
    '--metrics': metrics,
    '--rpc-tls-cert': memberCert,
    '--rpc-tls-key': memberKey,
    '--rpc-tls-ca': memberCa,
  }
  const child = spawn(process.execPath, [join(ROOT, 'bin/main.ts'), 'authsvc', ...Object.entries(flags).flat()], {
    env: { PATH: process.env['PATH'] },
    stdio: 'ignore',
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const ready = async (): Promise<string> =>
    await fetch(`http://${metrics}/readyz`).then(
      response => response.text(),
      () => 'not there yet',
    )
  await until(async () => (await ready()).includes(`secret of the cluster: 127.0.0.1:${redis.port}: refused`), 'it says what it waits for')
  await redis.start()
  await until(async () => (await ready()).includes('"ready":true'), 'it serves')
  expect(await redis.command('GET', 'millrace:millrace:{secret}')).toMatch(/^[0-9a-f]{64}$/)
  child.kill('SIGTERM')
  expect(await once(child, 'exit')).toEqual([0, null])
}, 60_000)
