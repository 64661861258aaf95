import { accessSync, constants, writeFileSync } from 'node:fs'
import path from 'node:path'
import { processPeer } from './broker.ts'

const PROGRAMS = ['/usr/sbin/mosquitto', '/usr/local/sbin/mosquitto', '/opt/homebrew/sbin/mosquitto']

function program(): string | undefined {
  return PROGRAMS.find(file => {
    try {
      accessSync(file, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Mosquitto with its defaults, but for the queue limit: at 1000 messages it drops what a window of 200 × 20 sends to a group. */
export const mosquitto = processPeer({
  name: 'Mosquitto',
  lacks: [],
  roundsMax: Number.POSITIVE_INFINITY,
  missing: () => (program() ? null : `not installed (looked for ${PROGRAMS.join(', ')})`),
  async command({ port, directory, durable }) {
    const file = path.join(directory, 'mosquitto.conf')
    const lines = [`listener ${port} 127.0.0.1`, 'allow_anonymous true', 'max_queued_messages 0', 'log_type error']
    // Started as root it would change to a user that may not write here.
    if (process.getuid?.() === 0) lines.push('user root')
    if (durable) lines.push('persistence true', `persistence_location ${directory}/`)
    writeFileSync(file, `${lines.join('\n')}\n`)
    return [program()!, '-c', file]
  },
})
