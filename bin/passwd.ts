import { createInterface } from 'node:readline'
import { stringify } from 'yaml'
import { makePasswordHash } from '../authsvc/credentials/password-hash.ts'
import { makeScramKey, SCRAM_DEFAULT, SCRAM_HASHES, type ScramMechanism } from '../authsvc/credentials/scram-key.ts'
import { readFlags, resolveSettings } from '#shared/config/read-settings.ts'
import { parsed, Refusal } from '#shared/config/setting.ts'
import { SettingsError } from '#shared/config/settings-error.ts'
import { flagsHelp } from '#shared/config/settings-page.ts'
import { type Command, ExitCode, print } from './command.ts'

const FORMS = ['argon2id', 'scrypt', ...(Object.keys(SCRAM_HASHES) as ScramMechanism[])] as const
type Form = (typeof FORMS)[number]
const FORMS_DEFAULT: readonly Form[] = ['argon2id', ...SCRAM_DEFAULT]

const passwdSettings = {
  forms: parsed<readonly Form[], readonly Form[]>({
    default: FORMS_DEFAULT,
    defaultText: FORMS_DEFAULT.join(','),
    allowed: FORMS.join(', '),
    placeholder: 'FORM[,FORM]',
    read: text => readForms(text),
    help: 'What to keep of the password: argon2id or scrypt for the method Password, SCRAM-… for Scram.',
  }),
  attributes: parsed<ReadonlyMap<string, string>, ReadonlyMap<string, string>>({
    default: new Map(),
    defaultText: 'none',
    allowed: 'NAME=VALUE pairs, separated by commas',
    placeholder: 'NAME=VALUE[,…]',
    read: readAttributes,
    help: 'Attributes of the user for policies.',
  }),
} as const

/** `millrace passwd NAME` */
export const passwd: Command = {
  help: () => `Usage: millrace passwd NAME [FLAGS]

Reads a password from standard input (one line; from a terminal it is not shown) and prints the entry of a user for the Secret of the
authentication methods Password and Scram: append it to a key of that Secret. What is printed does not hold the password.

${flagsHelp([{ title: 'Flags', settings: passwdSettings }])}`,
  run: async args => {
    const [name, ...flags] = args
    if (name === undefined || name === '' || name.startsWith('-')) throw new SettingsError(['a user name is missing: millrace passwd NAME'])
    const { forms, attributes } = resolveSettings(passwdSettings, readFlags(passwdSettings, flags), {})
    const password = await readPassword()
    if (password === '') throw new SettingsError(['standard input: a password is missing'])
    print(stringify([entryOf(name, password, forms, attributes)], { lineWidth: 0 }).trimEnd())
    return ExitCode.Success
  },
}

function entryOf(name: string, password: string, forms: readonly Form[], attributes: ReadonlyMap<string, string>): object {
  const hash = forms.find(form => form === 'argon2id' || form === 'scrypt')
  const mechanisms = forms.filter(form => form !== 'argon2id' && form !== 'scrypt')
  try {
    return {
      name,
      ...(hash !== undefined && { password: makePasswordHash(hash, Buffer.from(password, 'utf8')) }),
      ...(mechanisms.length > 0 && { scram: mechanisms.map(mechanism => makeScramKey(mechanism, password)) }),
      ...(attributes.size > 0 && { attributes: Object.fromEntries(attributes) }),
    }
  } catch {
    throw new SettingsError([
      'standard input: the password holds characters that SASLprep (RFC 4013) forbids; SCRAM clients could not send it',
    ])
  }
}

function readForms(text: string): readonly Form[] | Refusal {
  const found = text.split(',').map(given => FORMS.find(form => form.toLowerCase() === given.trim().toLowerCase()))
  const known = found.filter(form => form !== undefined)
  const hashes = known.filter(form => form === 'argon2id' || form === 'scrypt')
  if (known.length !== found.length) return new Refusal(`expected some of ${FORMS.join(', ')}`)
  return hashes.length > 1 ? new Refusal('argon2id and scrypt: one of them') : known
}

function readAttributes(text: string): ReadonlyMap<string, string> | Refusal {
  const pairs = text.split(',').map(pair => /^\s*([^=]+)=(.*)$/.exec(pair))
  if (pairs.includes(null)) return new Refusal('expected NAME=VALUE pairs, separated by commas')
  return new Map(pairs.map(pair => [pair![1]!.trim(), pair![2]!]))
}

/** One line of standard input; a terminal shows a prompt on standard error and nothing of what is typed. */
async function readPassword(): Promise<string> {
  const { stdin, stderr } = process
  if (!stdin.isTTY) {
    for await (const line of createInterface({ input: stdin })) return line
    return ''
  }
  stderr.write('Password: ')
  stdin.setRawMode(true)
  let typed = ''
  try {
    for await (const chunk of stdin.setEncoding('utf8') as AsyncIterable<string>) {
      for (const character of chunk) {
        if (character === '\r' || character === '\n') return typed
        if (character === '\u0003') throw new SettingsError(['interrupted'])
        typed = character === '\u007f' ? typed.slice(0, -1) : typed + character
      }
    }
    return typed
  } finally {
    stdin.setRawMode(false)
    stderr.write('\n')
  }
}
