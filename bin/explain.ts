import { readFileSync } from 'node:fs'
import { explain as explainRights, type Explanation, type Question } from '#shared/authorization/explanation.ts'
import { type RuleName, ruleText } from '#shared/authorization/permit.ts'
import { compilePolicy } from '#shared/authorization/policy.ts'
import type { Subject } from '#shared/authorization/template.ts'
import { readFlags, resolveSettings } from '#shared/config/read-settings.ts'
import { choice, optionalInt, parsed, path, Refusal, type Setting, text, toggle, type ValuesOf } from '#shared/config/setting.ts'
import { flagsHelp } from '#shared/config/settings-page.ts'
import { SettingsError } from '#shared/config/settings-error.ts'
import { ProtocolError } from '#shared/mqtt/protocol-error.ts'
import { checkTopicName, parseTopicFilter, TOPIC_LEVELS_MAX } from '#shared/mqtt/topic.ts'
import type { ListenerPort } from '#shared/resources/broker-listener.ts'
import { DirectorySource } from '#shared/resources/directory-source.ts'
import type { Resource, ResourceSnapshot } from '#shared/resources/resource-snapshot.ts'
import { readYaml } from '#shared/resources/yaml-document.ts'
import { type Command, ExitCode, print } from './command.ts'

const TEXT_MAX = 65_535

const attr: Setting<ReadonlyMap<string, string>> = {
  help: 'An attribute that the client has. Repeat for more.',
  default: new Map(),
  defaultText: 'none',
  allowed: 'NAME=VALUE',
  placeholder: 'NAME=VALUE',
  repeatable: true,
  isSecret: false,
  parse: texts => {
    const pairs = texts.map((given): [string, string] => [given.slice(0, given.indexOf('=')), given.slice(given.indexOf('=') + 1)])
    return texts.every(given => given.indexOf('=') > 0) ? new Map(pairs) : new Refusal('expected NAME=VALUE')
  },
  fromYaml: () => new Refusal('expected a flag'),
}

const explainSettings = {
  config: path({ default: null, placeholder: 'DIR', help: 'Directory of resources, as for start.' }),
  listener: text({ default: '', placeholder: 'NAME', maxLength: 253, help: 'The BrokerListener.' }),
  port: optionalInt({ min: 0, max: 65_535, help: 'Which of its ports.' }),
  clientId: text({ default: '', placeholder: 'ID', maxLength: TEXT_MAX, help: 'Client Identifier.' }),
  username: text({
    default: '',
    placeholder: 'NAME',
    maxLength: TEXT_MAX,
    help: 'User name as the authentication method proves it: with X509 the Common Name.',
  }),
  attr,
  connect: toggle({ help: 'May it connect?' }),
  publish: asked('TOPIC', 'May it publish to this Topic Name?', readTopicName),
  subscribe: asked('FILTER', 'May it subscribe to this Topic Filter?', readFilter),
  key: asked('KEY', 'May it use this key of the state store? With --access.', value => value),
  access: choice({ default: 'read', values: ['read', 'write'], help: 'How it would use the key.' }),
} as const

type Given = ValuesOf<typeof explainSettings>

function asked(placeholder: string, help: string, read: (value: string) => string | Refusal): Setting<string | null> {
  return parsed<string, null>({ default: null, allowed: placeholder, placeholder, help, read })
}

function readTopicName(name: string): string | Refusal {
  const bytes = Buffer.from(name, 'utf8')
  return refusing(name, () => checkTopicName(bytes, 0, bytes.length, TOPIC_LEVELS_MAX))
}

function readFilter(filter: string): string | Refusal {
  return refusing(filter, () => parseTopicFilter(filter))
}

function refusing(value: string, check: () => unknown): string | Refusal {
  try {
    check()
    return value
  } catch (error) {
    if (error instanceof ProtocolError) return new Refusal(error.message)
    throw error
  }
}

/** `millrace explain` */
export const explain: Command = {
  help: () => `Usage: millrace explain --config DIR --listener NAME --port N --client-id ID [--username NAME] [--attr NAME=VALUE]…
         (--connect | --publish TOPIC | --subscribe FILTER | --key KEY --access read|write)

Says whether a client may do something at a port and which rule decides. Nothing is asked of a broker: what the client has proven (user name,
attributes) is taken as given. Exit code 0: it may. 1: it may not. 2: the question or the resources have a fault.

${flagsHelp([{ title: 'Flags', settings: explainSettings }])}`,
  run: async args => {
    const given = resolveSettings(explainSettings, readFlags(explainSettings, args), {})
    const question = questionOf(given)
    const snapshot = await readDirectory(given.config)
    const port = portOf(snapshot, given)
    const { isAllowed, lines } = explainPort(snapshot, port, given, question)
    print(`${isAllowed ? 'allowed' : 'denied'}: ${clientText(given)}: ${questionText(question)}`)
    for (const line of lines) print(`  ${line}`)
    return isAllowed ? ExitCode.Success : ExitCode.Failure
  },
}

function questionOf({ connect, publish, subscribe, key, access }: Given): Question {
  const questions: Question[] = []
  if (connect) questions.push({ is: 'connect' })
  if (publish !== null) questions.push({ is: 'publish', topicName: publish })
  if (subscribe !== null) questions.push({ is: 'subscribe', filter: subscribe })
  if (key !== null) questions.push({ is: 'key', key: Buffer.from(key, 'utf8'), access })
  const [question] = questions
  if (question === undefined || questions.length > 1)
    throw new SettingsError(['expected one of --connect, --publish TOPIC, --subscribe FILTER, --key KEY'])
  return question
}

function questionText(question: Question): string {
  switch (question.is) {
    case 'connect':
      return 'connect'
    case 'publish':
      return `publish to ${question.topicName}`
    case 'subscribe':
      return `subscribe to ${question.filter}`
    default:
      return `${question.access} key ${Buffer.from(question.key).toString('utf8')} of the state store`
  }
}

function clientText({ clientId, username, attr: attributes }: Given): string {
  const pairs = [...attributes].map(([name, value]) => `${name}=${value}`)
  const parts = [
    `client ${clientId === '' ? 'without a Client Identifier' : clientId}`,
    username === '' ? 'no user name' : `user name ${username}`,
    pairs.length === 0 ? 'no attributes' : `attributes ${pairs.join(', ')}`,
  ]
  return parts.join(', ')
}

/** @throws {SettingsError} no directory given, or one with a fault */
async function readDirectory(directory: string | null): Promise<ResourceSnapshot> {
  if (directory === null) throw new SettingsError(['flag --config: is missing'])
  const source = new DirectorySource(directory)
  await source.start()
  await source.stop()
  return source.current
}

/** @throws {SettingsError} there is no such port */
function portOf({ listeners }: ResourceSnapshot, { listener: name, port: number }: Given): ListenerPort {
  const listener = listeners.get(name)
  if (listener === undefined)
    throw new SettingsError([
      `flag --listener: ${name === '' ? 'is missing' : `there is no BrokerListener ${name}`}${has([...listeners.keys()])}`,
    ])
  const { ports } = listener.spec
  const port = ports.find(each => each.port === number)
  if (port === undefined) {
    const numbers = ports.map(each => String(each.port))
    throw new SettingsError([
      `flag --port: ${number === null ? 'is missing' : `BrokerListener ${name} has no port ${number}`}${has(numbers)}`,
    ])
  }
  return port
}

function has(names: readonly string[]): string {
  return names.length === 0 ? '' : `; there is ${names.join(', ')}`
}

function explainPort(snapshot: ResourceSnapshot, port: ListenerPort, given: Given, question: Question): Explanation {
  const { authenticationRef, authorizationRef } = port
  const names = authorizationRef ?? []
  if (authenticationRef === undefined) {
    const ignored = names.length === 0 ? [] : ['its authorizationRef has no effect without authenticationRef']
    return { isAllowed: true, lines: ['the port has no authenticationRef: everybody may do everything', ...ignored] }
  }
  const missing = [
    ...(snapshot.authentications.has(authenticationRef) ? [] : [`BrokerAuthentication ${authenticationRef}`]),
    ...names.filter(name => !snapshot.authorizations.has(name)).map(name => `BrokerAuthorization ${name}`),
  ]
  if (missing.length > 0) return { isAllowed: false, lines: missing.map(name => `the port stays closed: there is no ${name}`) }
  if (names.length === 0)
    return { isAllowed: true, lines: ['the port has no authorizationRef: whoever is authenticated may do everything'] }
  const resources = names.map(name => snapshot.authorizations.get(name)!)
  const policies = resources.map(({ name, spec }) => compilePolicy(name, spec.authorizationPolicies))
  const subject: Subject = { clientId: given.clientId, userName: given.username, attributes: given.attr }
  return explainRights(policies, subject, question, rule => whereOf(resources.find(({ name }) => name === rule.policy)!, rule))
}

/** `file:line` of the rule, or of its resource when the file has changed meanwhile. */
function whereOf({ where }: Resource<unknown>, rule: RuleName): string {
  const file = where.replace(/:\d+$/, '')
  try {
    const documents = readYaml(file, readFileSync(file, 'utf8'), [])
    const document = documents.find(each => isPolicy(each.value, rule.policy))
    return document?.whereOf(['spec', 'authorizationPolicies', 'rules', rule.index]) ?? where
  } catch {
    return `${where}, ${ruleText(rule)}`
  }
}

function isPolicy(value: unknown, name: string): boolean {
  const { kind, metadata } = value as { kind?: unknown; metadata?: { name?: unknown } | null }
  return kind === 'BrokerAuthorization' && metadata?.name === name
}
