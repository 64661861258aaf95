#!/usr/bin/env node
/**
 * Starts the command with a Node that runs its sources and with V8's flags. Plain JavaScript: it runs on Node 20.
 * Where Node can replace itself the process keeps its id, so that every signal, SIGKILL included, meets the broker itself.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'

/**
 * The size of the young generation: 64 MiB cost 9 KB of memory more for each of 10,000 idle connections than 16 MiB, and neither CPU
 * per message nor p99 were better.
 */
const V8_FLAGS = ['--max-semi-space-size=16']
const NODE_FLAGS = ['--disable-warning=ExperimentalWarning', '--disable-warning=DEP0205']
const NODE_MAJOR_MIN = 24

const compiled = new URL('main.js', import.meta.url)
const main = fileURLToPath(existsSync(compiled) ? compiled : new URL('main.ts', import.meta.url))

/** A Node that is new enough: the running one, else the one that came with the packages; null when there is none. */
function suitableNode() {
  if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR_MIN) return process.execPath
  for (const folder of ['../node_modules', '../../node_modules']) {
    const bundled = fileURLToPath(new URL(`${folder}/node-linux-${process.arch}/bin/node`, import.meta.url))
    if (existsSync(bundled)) return bundled
  }
  return null
}

/** Our flags first, so that those given in NODE_OPTIONS or by hand win. */
function commandLine() {
  return [...V8_FLAGS, ...NODE_FLAGS, ...process.execArgv, main, ...process.argv.slice(2)]
}

/** Node 20: a child takes our place as far as that is possible. It ends when we do, by the channel that closes with us. */
function runAsChild(node) {
  const env = { ...process.env, MILLRACE_LAUNCHER: 'ipc' }
  const child = spawn(node, commandLine(), { stdio: ['inherit', 'inherit', 'inherit', 'ipc'], env })
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.once('error', error => {
    process.stderr.write(`millrace: ${node}: ${error.message}\n`)
    process.exit(1)
  })
  child.once('exit', (code, signal) => {
    if (signal === null) process.exit(code)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
    // A signal that does not end us, for example one that is ignored.
    setTimeout(() => process.exit(128 + constants.signals[signal]), 1_000)
  })
}

const node = suitableNode()
if (node === null) {
  process.stderr.write(
    `millrace: needs Node ${NODE_MAJOR_MIN} or newer; this is ${process.version}. In a clone, run npm ci first: it brings one along on Linux.\n`,
  )
  process.exit(1)
}
if (typeof process.execve === 'function') {
  process.execve(node, [node, ...commandLine()], process.env)
} else {
  runAsChild(node)
}
