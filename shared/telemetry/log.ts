import { pino } from 'pino'

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

export type LogValue = string | number | boolean | bigint | null | undefined | Error | readonly (string | number)[]
export type LogFields = Readonly<Record<string, LogValue>>

/**
 * Where events go. `event` is a fixed name of our own (`connection_closed`), never text from outside; what differs from
 * line to line is in `fields`. Building the fields costs even when the level is off: ask `debugEnabled` on the data path.
 */
export interface Log {
  readonly debugEnabled: boolean
  debug(event: string, fields?: LogFields): void
  info(event: string, fields?: LogFields): void
  warn(event: string, fields?: LogFields): void
  error(event: string, fields?: LogFields): void
}

/** Characters of one field that are kept; clients choose the length of what they send, not of our lines. */
export const FIELD_LENGTH_MAX = 256
/** The same for messages and stacks of our own errors. */
const ERROR_LENGTH_MAX = 2_048

/** What a terminal or a log viewer might act on: DEL, C1 controls, line separators, marks that turn text around. JSON escapes C0 itself. */
const UNPRINTABLE = /[\u007f-\u009f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g

/** Text as a log line may hold it: bounded, with nothing in it that a terminal would act on. */
export function logText(text: string, lengthMax: number = FIELD_LENGTH_MAX): string {
  const kept = text.length <= lengthMax ? text : `${text.slice(0, lengthMax)}… (${text.length} characters)`
  return kept.replace(UNPRINTABLE, found => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** A log whose level may change while the process runs. */
export interface ProcessLog extends Log {
  setLevel(level: LogLevel): void
}

/** One JSON line per event on `write` (default: standard error, synchronously, so that the last words before an exit arrive). */
export function openLog(level: LogLevel, write?: (line: string) => void): ProcessLog {
  const destination = write === undefined ? standardError() : { write }
  const logger = pino(
    {
      level,
      base: null,
      messageKey: 'event',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
    },
    destination,
  )
  return {
    get debugEnabled() {
      return logger.isLevelEnabled('debug')
    },
    setLevel: changed => {
      logger.level = changed
    },
    debug: (event, fields) => {
      if (logger.isLevelEnabled('debug')) logger.debug(printable(fields), event)
    },
    info: (event, fields) => logger.info(printable(fields), event),
    warn: (event, fields) => logger.warn(printable(fields), event),
    error: (event, fields) => logger.error(printable(fields), event),
  }
}

function standardError(): { write(line: string): void } {
  const destination = pino.destination({ dest: 2, sync: true })
  // Nobody reads our standard error any more: no reason to stop serving.
  destination.on('error', () => undefined)
  return destination
}

function printable(fields: LogFields | undefined): object {
  if (fields === undefined) return {}
  const line: Record<string, unknown> = Object.create(null) as Record<string, unknown>
  for (const [name, value] of Object.entries(fields)) line[name] = printableValue(value)
  return line
}

function printableValue(value: LogValue): unknown {
  if (typeof value === 'string') return logText(value)
  if (typeof value === 'bigint') return value.toString()
  if (value instanceof Error) return printableError(value)
  if (Array.isArray(value)) return value.slice(0, 32).map((one: string | number) => (typeof one === 'string' ? logText(one) : one))
  return value
}

function printableError(error: Error): object {
  const code: unknown = 'code' in error ? error.code : undefined
  return {
    type: error.name,
    message: logText(error.message, ERROR_LENGTH_MAX),
    ...(typeof code === 'string' && { code }),
    stack: logText(error.stack ?? '', ERROR_LENGTH_MAX),
  }
}

/** Keeps events for assertions. */
export class RecordingLog implements Log {
  readonly debugEnabled = true
  readonly lines: { readonly level: LogLevel; readonly event: string; readonly fields: LogFields }[] = []

  debug(event: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'debug', event, fields })
  }

  info(event: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'info', event, fields })
  }

  warn(event: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'warn', event, fields })
  }

  error(event: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'error', event, fields })
  }

  /** Names of the events, in order. */
  get events(): readonly string[] {
    return this.lines.map(line => line.event)
  }
}
