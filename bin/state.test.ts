import { execFile, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FakeBroker } from '../client/fake-broker.contract.ts'
import { StateStore } from '../client/state-store.ts'

const MAIN = new URL('main.ts', import.meta.url).pathname

let broker: FakeBroker
beforeAll(async () => {
  broker = await FakeBroker.start({ username: 'operator', password: 'secret' })
})
afterAll(async () => {
  await broker[Symbol.asyncDispose]()
})

const argsOf = (args: readonly string[]): string[] => [MAIN, 'state', ...args, '--url', broker.url, '--user', 'operator']
const env = { ...process.env, MILLRACE_STATE_PASSWORD: 'secret' }

/** Exit code, standard output, standard error. */
function run(args: readonly string[], { input = '', variables = env } = {}): Promise<readonly [code: number, out: string, err: string]> {
  return new Promise(resolve => {
    const child = execFile(process.execPath, argsOf(args), { env: variables, encoding: 'utf8' }, (_, out, err) =>
      resolve([child.exitCode ?? -1, out, err]),
    )
    child.stdin!.end(input)
  })
}

describe('millrace state', () => {
  test('sets, gets and deletes', async () => {
    expect(await run(['get', 'k'])).toEqual([1, '', 'millrace state: there is no such key\n'])
    const [code, version] = await run(['set', 'k', 'välue'])
    expect([code, /^\d+:\d+:StateStore\n$/.test(version)]).toEqual([0, true])
    expect(await run(['get', 'k'])).toEqual([0, 'välue', ''])
    expect(await run(['get', '6b', '--hex'])).toEqual([0, '76c3a46c7565\n', ''])
    expect(await run(['set', 'k', 'other', '--nx'])).toEqual([
      1,
      '',
      `millrace state: the condition was not met: the key has version ${version}`,
    ])
    expect(await run(['del', 'k', 'other'])).toEqual([1, '', 'millrace state: the key has another value\n'])
    expect(await run(['del', 'k', 'välue'])).toEqual([0, '', ''])
  })

  test('a value from standard input, a fencing token, keys by their beginning', async () => {
    const [, version] = await run(['set', 'list/lock', 'x', '--px', '60000'])
    await run(['set', 'list/\u001b[2J', '-', '--token', version.trim()], { input: 'from\r\nfar' })
    expect(await run(['get', 'list/\u001b[2J'])).toEqual([0, 'from\r\nfar', ''])
    expect(await run(['del', 'list/\u001b[2J'])).toEqual([1, '', 'millrace state: a fencing token is required for this request\n'])
    expect(await run(['ls', 'list/'])).toEqual([0, 'hex:6c6973742f1b5b324a\nlist/lock\n', ''])
    expect((await run(['del', 'list/\u001b[2J', '--token', version.trim()]))[0]).toBe(0)
    expect((await run(['ls', 'nothing/']))[1]).toBe('')
  })

  test('watches until told to stop', async () => {
    const child = spawn(process.execPath, argsOf(['watch', 'watched', '--client-id', 'watcher', '--count', '2']), { env })
    const store = await StateStore.connect(broker.url, { mqtt: { username: 'operator', password: 'secret' } })
    const lines: string[] = []
    child.stdout.setEncoding('utf8')
    const ended = new Promise(resolve => child.once('exit', resolve))
    createInterface({ input: child.stdout }).on('line', line => lines.push(line.replace(/^\d+:\d+:/, '')))
    while (!broker.executed.includes('KEYNOTIFY watcher')) await store.get('anything')
    await store.set('watched', 'now')
    await store.delete('watched')
    expect(await ended).toBe(0)
    expect(lines).toEqual(['StateStore set now', 'StateStore deleted'])
    await store.close()
  })

  test('watches keys by their beginning, and says which key it was', async () => {
    const child = spawn(process.execPath, argsOf(['watch', 'list/', '--prefix', '--client-id', 'lister', '--count', '2']), { env })
    const store = await StateStore.connect(broker.url, { mqtt: { username: 'operator', password: 'secret' } })
    const lines: string[] = []
    child.stdout.setEncoding('utf8')
    const ended = new Promise(resolve => child.once('exit', resolve))
    createInterface({ input: child.stdout }).on('line', line => lines.push(line.replace(/^\d+:\d+:/, '')))
    while (!broker.executed.includes('WATCH lister')) await store.get('anything')
    await store.set('list', 'not this')
    await store.set('list/a', 'now')
    await store.delete('list/a')
    expect(await ended).toBe(0)
    expect(lines).toEqual(['StateStore list/a set now', 'StateStore list/a deleted'])
    await store.close()
  })

  test('watches a key over a connection that is lost', async () => {
    const child = spawn(process.execPath, argsOf(['watch', 'kept', '--keep', '60000', '--client-id', 'keeper', '--count', '4']), { env })
    const store = await StateStore.connect(broker.url, { mqtt: { username: 'operator', password: 'secret' } })
    const lines: string[] = []
    child.stdout.setEncoding('utf8')
    const ended = new Promise(resolve => child.once('exit', resolve))
    createInterface({ input: child.stdout }).on('line', line => lines.push(line.replace(/^\d+:\d+:/, '')))
    while (!broker.executed.includes('KEYNOTIFY keeper')) await store.get('anything')
    await store.set('kept', 'seen')
    while (lines.length === 0) await store.get('anything')
    await broker.cut('keeper')
    await store.set('kept', '1')
    await store.set('kept', '2')
    expect(await ended).toBe(0)
    expect(lines.filter(line => line.startsWith('StateStore'))).toEqual(['StateStore set seen', 'StateStore set 1', 'StateStore set 2'])
    expect(lines.filter(line => /^resumed: [0-2] changes/.test(line))).toHaveLength(1)
    await store.close()
  })

  test('says what is wrong', async () => {
    const wrong = { ...env, MILLRACE_STATE_PASSWORD: 'wrong' }
    const [code, , err] = await run(['get', 'k'], { variables: wrong })
    expect([code, err]).toEqual([1, 'millrace state: Connection refused: Bad User Name or Password\n'])
    expect((await run(['put', 'k']))[0]).toBe(2)
    expect((await run(['set', 'k']))[2]).toContain('set: expected 2 words')
    expect((await run(['watch']))[2]).toContain('watch: expected a key, or --prefix')
    expect((await run(['watch', 'k', '--prefix', '--keep', '1']))[2]).toContain('flags --prefix, --keep')
    expect((await run(['get', 'xy', '--hex']))[2]).toContain('expected bytes in hexadecimal')
    expect((await run(['get', 'k', '--state-password', 'x']))[2]).toContain('MILLRACE_STATE_PASSWORD in the environment')
    expect((await run(['set', 'k', 'v', '--nx', '--nex']))[2]).toContain('one of them')
    expect((await run(['get', 'k', '--ca', 'missing.pem']))[2]).toContain('flag --ca: cannot read missing.pem')
  })
})
