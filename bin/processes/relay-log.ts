import type { Readable } from 'node:stream'
import { logText } from '#shared/telemetry/log.ts'

/** A line that grows longer than this is passed on in pieces. */
const LINE_CHARACTERS_MAX = 65_536

type Label = Readonly<Record<string, string | number>>

/** Passes what a child writes to standard error on to ours, line by line, each marked with `label`; `level` is that of lines which are not of our making. */
export function relayLog(from: Readable, label: Label, level: 'info' | 'warn' = 'warn'): void {
  let pending = ''
  from.setEncoding('utf8')
  from.on('data', (text: string) => {
    const lines = (pending + text).split('\n')
    pending = lines.pop()!
    if (pending.length > LINE_CHARACTERS_MAX) {
      lines.push(pending)
      pending = ''
    }
    if (lines.length > 0) process.stderr.write(lines.map(line => markedLine(line, label, level)).join(''))
  })
  from.on('close', () => {
    if (pending !== '') process.stderr.write(markedLine(pending, label, level))
  })
}

/** A JSON line with the label after its own fields, so that it counts where they have the same name; text that is none, such as a stack, becomes one. Ends with a line feed; nothing for an empty line. */
export function markedLine(line: string, label: Label, level: 'info' | 'warn' = 'warn'): string {
  if (line === '') return ''
  const fields = JSON.stringify(label).slice(1, -1)
  // Our own lines; whoever reads them reads JSON, so what only looks like it must not pass for it.
  if (line.startsWith('{"') && line.endsWith('}') && isJson(line)) return `${line.slice(0, -1)},${fields}}\n`
  return `${JSON.stringify({ ...label, level, event: 'output', text: logText(line, LINE_CHARACTERS_MAX) })}\n`
}

function isJson(line: string): boolean {
  try {
    JSON.parse(line)
    return true
  } catch {
    return false
  }
}
