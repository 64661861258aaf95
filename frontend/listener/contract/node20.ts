import { execFile, fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { promisify } from 'node:util'
import type { Host, HostReply } from './host.ts'
import type { HostMessage } from './node20-main.ts'

const ROOT = join(import.meta.dirname, '../../..')
const MAIN = 'frontend/listener/contract/node20-main'
const NODE_20 = join(ROOT, `node_modules/node20-linux-${process.arch}/bin/node`)

interface Answer {
  readonly sequence: number
  readonly result?: HostReply
  readonly error?: string
}

interface Call {
  readonly resolve: (reply: HostReply) => void
  readonly reject: (error: Error) => void
}

/** ContractHosts in a process of Node 20: uWebSockets.js from npm has no binary for a later one. */
export class Node20 {
  readonly #directory: string
  readonly #child: ChildProcess
  readonly #exited: Promise<void>
  readonly #calls = new Map<number, Call>()
  #sequence = 0
  #hosts = 0

  static async start(): Promise<Node20> {
    const directory = await compile()
    return new Node20(
      directory,
      fork(join(directory, `${MAIN}.js`), { execPath: NODE_20, execArgv: [], stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }),
    )
  }

  private constructor(directory: string, child: ChildProcess) {
    this.#directory = directory
    this.#child = child
    this.#exited = new Promise(resolve => child.once('exit', () => resolve()))
    child.on('message', message => this.#onAnswer(message as Answer))
    child.once('exit', code => this.#failAll(new Error(`the Node 20 process ended with ${code}`)))
    child.once('error', error => this.#failAll(error))
  }

  /** A fresh host. */
  host(): Host {
    const host = this.#hosts++
    return command => {
      return new Promise((resolve, reject) => {
        const message: HostMessage = { host, sequence: this.#sequence++, command }
        this.#calls.set(message.sequence, { resolve, reject })
        this.#child.send(message, error => error && reject(error))
      })
    }
  }

  async stop(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect()
    await this.#exited
    await rm(this.#directory, { recursive: true })
  }

  #onAnswer({ sequence, result = null, error }: Answer): void {
    const call = this.#calls.get(sequence)
    this.#calls.delete(sequence)
    if (error === undefined) call?.resolve(result)
    else call?.reject(new Error(error))
  }

  #failAll(error: Error): void {
    for (const { reject } of this.#calls.values()) reject(error)
    this.#calls.clear()
  }
}

/** Node 20 cannot strip types: compiles the host and what it imports to JavaScript, inside node_modules so that packages are found. */
async function compile(): Promise<string> {
  const cache = join(ROOT, 'node_modules/.cache')
  await mkdir(cache, { recursive: true })
  const directory = await mkdtemp(join(cache, 'millrace-node20-'))
  const compilerOptions = {
    noEmit: false,
    noCheck: true, // checking is another step's work
    rewriteRelativeImportExtensions: true,
    rootDir: ROOT,
    outDir: directory,
    typeRoots: [join(ROOT, 'node_modules/@types')],
  }
  const config = {
    extends: join(relative(directory, ROOT), 'tsconfig.json'),
    compilerOptions,
    include: [],
    files: [join(ROOT, `${MAIN}.ts`)],
  }
  await writeFile(join(directory, 'tsconfig.json'), JSON.stringify(config))
  await writeFile(join(directory, 'package.json'), JSON.stringify({ type: 'module', imports: { '#shared/*.ts': './shared/*.js' } }))
  await promisify(execFile)(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', directory])
  return directory
}
