import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { openStoreUnderTest } from './store-under-test.contract.ts'

test('the example does what its lines say', async () => {
  await using subject = await openStoreUnderTest()
  const { stdout } = await promisify(execFile)(process.execPath, [new URL('example.ts', import.meta.url).pathname, subject.url])
  expect(stdout.replace(/version \d+:\d+/, 'version V').split('\n')).toEqual([
    'set, version V',
    'get: hello',
    'watched: set',
    'deleted: deleted',
    '',
  ])
})
