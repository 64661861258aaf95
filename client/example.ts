import { argv, stdout } from 'node:process'
import { LeasedLock } from './lock.ts'
import { StateStore } from './state-store.ts'

// node client/example.ts [mqtt://127.0.0.1:1883]
const store = await StateStore.connect(argv[2] ?? 'mqtt://127.0.0.1:1883')

const watch = await store.watch('greeting')
const { version } = await store.set('greeting', 'hello', { pxMs: 60_000 })
stdout.write(`set, version ${version.wallMs}:${version.counter}\n`)
stdout.write(`get: ${(await store.get('greeting'))?.text}\n`)
stdout.write(`watched: ${(await watch.next())?.is}\n`)

const lock = new LeasedLock(store, 'greeting-lock')
await lock.use(async held => {
  await store.set('greeting-count', '1', { fencingToken: held.token })
  await store.delete('greeting-count', { fencingToken: held.token })
})
stdout.write(`deleted: ${(await store.delete('greeting')).is}\n`)
await store.close()
