/**
 * Makes a clone ready to run: packages as package-lock.json says, a Node that runs TypeScript and, with `--test-tools`,
 * the programs that tests start. Plain JavaScript without dependencies: it runs on Node 20, before anything is installed.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const lockPath = join(root, 'package-lock.json')
const modules = join(root, 'node_modules')
const stampPath = join(modules, '.millrace-lock-hash')
const guardPath = join(root, '.millrace-install.pid')

const NODE_MAJOR_MIN = 24
const INSTALL_WAIT_MS = 500

/** Program → Debian package that has it. */
const TEST_TOOLS = { 'redis-server': 'redis-server', mosquitto_pub: 'mosquitto-clients', haproxy: 'haproxy' }

function say(text) {
  process.stderr.write(`${text}\n`)
}

function fail(text) {
  say(text)
  process.exit(1)
}

/** Runs a program to its end; a signal to us goes on to it. Its output goes to stderr: stdout belongs to what comes after. */
function run(command, args, env = process.env) {
  const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 2, 2] })
  const pass = signal => child.kill(signal)
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']
  for (const signal of signals) process.on(signal, pass)
  return new Promise(resolve => {
    const done = status => {
      for (const signal of signals) process.off(signal, pass)
      resolve(status)
    }
    child.once('error', error => {
      say(`${command}: ${error.message}`)
      done(127)
    })
    child.once('exit', (code, signal) => {
      if (signal) process.exit(128 + constants.signals[signal])
      done(code)
    })
  })
}

/** What npm itself notes about an installed tree says the same as the lock: somebody ran npm by hand. */
function treeMatches(lockText) {
  try {
    const wanted = JSON.parse(lockText).packages
    const found = JSON.parse(readFileSync(join(modules, '.package-lock.json'), 'utf8')).packages
    return (
      Object.entries(found).every(
        ([path, entry]) => wanted[path]?.version === entry.version && wanted[path].integrity === entry.integrity,
      ) && Object.entries(wanted).every(([path, entry]) => path === '' || entry.optional || entry.devOptional || path in found)
    )
  } catch {
    return false
  }
}

function isInstalled() {
  const lockText = readFileSync(lockPath, 'utf8')
  const hash = createHash('sha256').update(lockText).digest('hex')
  if (existsSync(stampPath) && readFileSync(stampPath, 'utf8') === hash) return true
  if (!treeMatches(lockText)) return false
  writeFileSync(stampPath, hash)
  return true
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

/** True: we hold the guard and must remove it. False: another process held it and has ended. */
async function takeGuard() {
  let told = false
  for (;;) {
    try {
      writeFileSync(guardPath, String(process.pid), { flag: 'wx' })
      return true
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    let holder = NaN
    try {
      holder = Number(readFileSync(guardPath, 'utf8'))
    } catch {
      return false
    }
    if (holder > 0 && !isAlive(holder)) rmSync(guardPath, { force: true })
    else if (!told) {
      say(`Waiting for process ${holder}, which installs packages here.`)
      told = true
    }
    await sleep(INSTALL_WAIT_MS)
  }
}

async function install() {
  while (!isInstalled()) {
    if (!(await takeGuard())) continue
    process.once('exit', () => rmSync(guardPath, { force: true }))
    if (isInstalled()) return
    say('Installing packages (once; needs the network) …')
    const npm = process.env.npm_execpath?.endsWith('.js') ? [process.execPath, process.env.npm_execpath] : ['npm']
    const status = await run(npm[0], [...npm.slice(1), 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'])
    if (status !== 0) fail(`npm ci failed with exit code ${status}. Its message stands above.`)
    dropUnusableNode()
    if (!isInstalled())
      fail('npm ci ended well, yet node_modules does not agree with package-lock.json. Is an omit= set in the npm configuration?')
  }
}

/** The Node that came with the packages is built for glibc. Where it cannot run it must not hide the machine's own. */
function dropUnusableNode() {
  const bundled = join(modules, '.bin', 'node')
  if (existsSync(bundled) && spawnSync(bundled, ['--version']).status !== 0) rmSync(bundled, { force: true })
}

function checkNode() {
  if (existsSync(join(modules, '.bin', 'node'))) return
  if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR_MIN) return
  fail(
    `Millrace needs Node ${NODE_MAJOR_MIN} or newer; this is ${process.version}.\n` +
      `On Linux x64 and arm64 (glibc) it comes with the packages unless optional ones are left out (npm ci --include=optional). ` +
      `Elsewhere install Node ${NODE_MAJOR_MIN} first.`,
  )
}

function onPath(program) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']
  return folders.some(folder => folder !== '' && existsSync(join(folder, program)))
}

async function installTestTools() {
  const missing = Object.keys(TEST_TOOLS).filter(program => !onPath(program))
  if (missing.length === 0) return
  const packages = missing.map(program => TEST_TOOLS[program])
  const advice = `The tests need ${missing.join(', ')}, missing here. On Debian or Ubuntu: apt-get install ${packages.join(' ')}`
  if (process.getuid?.() !== 0 || !onPath('apt-get')) fail(advice)
  say(`Installing ${packages.join(', ')} through apt-get (once; needs the network) …`)
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const updated = await run('apt-get', ['update', '-qq'], env)
  const installed = updated === 0 ? await run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...packages], env) : updated
  if (installed !== 0 || !missing.every(onPath)) fail(`apt-get failed with exit code ${installed}. ${advice}`)
}

await install()
checkNode()
if (process.argv.includes('--test-tools')) await installTestTools()
