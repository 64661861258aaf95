import { execFileSync } from 'node:child_process'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { expect, onTestFinished, test } from 'vitest'
import { createPki } from '#shared/config/pki.ts'
import { freePorts } from '#shared/testing/free-ports.ts'
import { RawClient } from '../conformance/raw-client.ts'
import { scratchDirectory, startBroker } from '../limits/real-broker.ts'
import { resource } from './policed-broker.ts'

const ADMINISTRATIVE_ACTION = 0x98

interface Port {
  readonly port: number
  readonly tls?: object
}

const manual = (secretRef: string): object => ({ mode: 'Manual', manual: { secretRef } })
const listener = (ports: readonly Port[]): string =>
  resource('BrokerListener', 'plant', { ports: ports.map(port => ({ host: '127.0.0.1', ...port })) })

/** A broker with a directory of resources. */
async function brokerWith(ports: readonly Port[]) {
  const directory = await scratchDirectory()
  const config = join(directory, 'config')
  await mkdir(config)
  let made = 0
  const write = async (text: string): Promise<void> => {
    await writeFile(join(config, '.new'), text)
    await rename(join(config, '.new'), join(config, 'listener.yaml'))
  }
  /** A mounted Secret with a certificate of its own, put there at once. */
  const putSecret = async (name: string): Promise<string> => {
    const pki = await createPki(join(directory, `pki-${++made}`))
    await mkdir(join(config, 'secrets'), { recursive: true })
    await mkdir(join(directory, 'mounted'))
    await writeFile(join(directory, 'mounted/tls.crt'), await readFile(pki.serverCert))
    await writeFile(join(directory, 'mounted/tls.key'), await readFile(pki.serverKey))
    await rm(join(config, 'secrets', name), { recursive: true, force: true })
    await rename(join(directory, 'mounted'), join(config, 'secrets', name))
    return execFileSync('openssl', ['x509', '-in', pki.serverCert, '-noout', '-serial']).toString().trim().split('=')[1]!
  }
  await write(listener(ports))
  const start = async () => startBroker('--config', config, '--log-level', 'info')
  const removeSecret = (name: string): Promise<void> => rm(join(config, 'secrets', name), { recursive: true })
  return { write, putSecret, removeSecret, start }
}

/** What a broker says of ports that are not as the resources want them. */
async function impairedOf({ metricsUrl }: { readonly metricsUrl: string }): Promise<unknown> {
  return ((await (await fetch(`${metricsUrl}/readyz`)).json()) as { impaired: unknown }).impaired
}

async function isOpen(port: number): Promise<boolean> {
  try {
    const client = await RawClient.open('127.0.0.1', port)
    client.drop()
    return true
  } catch {
    return false
  }
}

/** Serial number of the certificate that a new connection is shown. */
function serialOf(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().serialNumber)
      socket.destroy()
    })
    socket.on('error', reject)
  })
}

function secureClient(port: number): Promise<RawClient> {
  return new Promise((resolve, reject) => {
    const socket: TLSSocket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false }, () => resolve(new RawClient(socket)))
    socket.on('error', reject)
    onTestFinished(() => void socket.destroy())
  })
}

const soon = { timeout: 15_000 }

test('ports come and go while others serve: the clients of one that goes are told, the others notice nothing', async () => {
  const [kept, going, coming] = (await freePorts(3)) as [number, number, number]
  const { write, start } = await brokerWith([{ port: kept }, { port: going }])
  await start()
  const stays = await (await RawClient.open('127.0.0.1', kept)).connect({ clientId: 'stays' })
  const leaves = await (await RawClient.open('127.0.0.1', going)).connect({ clientId: 'leaves' })
  await write(listener([{ port: kept }, { port: coming }]))
  await leaves.expectDisconnect(ADMINISTRATIVE_ACTION)
  await expect.poll(() => isOpen(coming), soon).toBe(true)
  expect(await isOpen(going)).toBe(false)
  await stays.expectNothing()
})

test('a new certificate is for new connections; those that are there stay', async () => {
  const [port] = (await freePorts(1)) as [number]
  const { putSecret, start } = await brokerWith([{ port, tls: manual('plant-tls') }])
  const first = await putSecret('plant-tls')
  await start()
  expect(await serialOf(port)).toBe(first)
  const client = await (await secureClient(port)).connect({ clientId: 'stays' })
  const second = await putSecret('plant-tls')
  await expect.poll(() => serialOf(port), soon).toBe(second)
  await client.expectNothing()
})

test('a secret that goes closes no port: it goes on with the certificate that it has, and says so', async () => {
  const [port] = (await freePorts(1)) as [number]
  const { putSecret, removeSecret, start } = await brokerWith([{ port, tls: manual('plant-tls') }])
  const serial = await putSecret('plant-tls')
  const broker = await start()
  const impaired = (): Promise<unknown> => impairedOf(broker)
  await removeSecret('plant-tls')
  await expect
    .poll(impaired, soon)
    .toEqual([`BrokerListener plant port ${port}: secret plant-tls has no tls.crt; the port goes on with the certificate that it has`])
  expect(await serialOf(port)).toBe(serial)
  const renewed = await putSecret('plant-tls')
  await expect.poll(() => serialOf(port), soon).toBe(renewed)
  expect(await impaired()).toEqual([])
})

test('a missing secret keeps its port closed, and no other; the port opens when it appears', async () => {
  const [plain, secure] = (await freePorts(2)) as [number, number]
  const { putSecret, start } = await brokerWith([{ port: plain }, { port: secure, tls: manual('plant-tls') }])
  const broker = await start()
  const impaired = (): Promise<unknown> => impairedOf(broker)
  expect(await impaired()).toEqual([`BrokerListener plant port ${secure}: secret plant-tls has no tls.crt`])
  const client = await (await RawClient.open('127.0.0.1', plain)).connect({ clientId: 'stays' })
  expect(await isOpen(secure)).toBe(false)
  const serial = await putSecret('plant-tls')
  await expect.poll(() => isOpen(secure), soon).toBe(true)
  expect(await serialOf(secure)).toBe(serial)
  expect(await impaired()).toEqual([])
  await client.expectNothing()
})

test('port 0 several times is as many ports; they stay when others come', async () => {
  const [coming] = (await freePorts(1)) as [number]
  const { write, start } = await brokerWith([{ port: 0 }, { port: 0 }])
  const broker = await start()
  const served = async (): Promise<number> => broker.metric('millrace_listener_open', 'BrokerListener plant')
  const opened = [...broker.err.matchAll(/"listener":"BrokerListener plant port 0","address":"127\.0\.0\.1:(\d+)"/g)].map(([, port]) =>
    Number(port),
  )
  expect(new Set(opened).size).toBe(2)
  expect(await served()).toBe(2)
  const clients = await Promise.all(
    opened.map(async (port, at) => (await RawClient.open('127.0.0.1', port)).connect({ clientId: `client ${at}` })),
  )
  await write(listener([{ port: 0 }, { port: 0 }, { port: coming }]))
  await expect.poll(() => isOpen(coming), soon).toBe(true)
  for (const client of clients) await client.expectNothing()
  expect((await broker.terminate()).code).toBe(0)
})
