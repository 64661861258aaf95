import { flagName, variableName } from './read-settings.ts'
import type { Setting, Settings } from './setting.ts'

export interface SettingsGroup {
  readonly title: string
  readonly settings: Settings
}

const HELP_INDENT = 6
const HELP_WIDTH = 100

/** The part of `--help` that lists flags. */
export function flagsHelp(groups: readonly SettingsGroup[]): string {
  return groups.map(group => `${group.title}:\n${Object.entries(group.settings).map(flagHelp).join('')}`).join('\n')
}

function flagHelp([name, setting]: readonly [string, Setting<unknown>]): string {
  const flag = `${flagName(name)}${setting.placeholder === '' ? '' : ` ${setting.placeholder}`}`
  const head = `  ${setting.isSecret ? `${variableName(name)} (environment only)` : flag}`
  const text = `${setting.help}${setting.placeholder === '' || setting.defaultText === '' ? '' : ` (${setting.defaultText})`}`
  return `${head}\n${wrap(text)}\n`
}

function wrap(text: string): string {
  const indent = ' '.repeat(HELP_INDENT)
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = lines.at(-1)!
    if (line !== '' && HELP_INDENT + line.length + 1 + word.length > HELP_WIDTH) lines.push(word)
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`
  }
  return lines.map(line => indent + line).join('\n')
}

/** docs/settings.md. A test keeps the file equal to this. */
export function settingsPage(groups: readonly SettingsGroup[]): string {
  const sections = groups.map(group => {
    const rows = Object.entries(group.settings).map(pageRow)
    return `## ${group.title}\n\n| flag | environment | default | allowed | what it does |\n|---|---|---|---|---|\n${rows.join('\n')}\n`
  })
  return `# Settings

Written by \`npm run settings\` from the declarations in \`shared/config/broker-settings.ts\`; change them there.

A flag wins over its environment variable, that over YAML, that over the default. A flag that may be repeated takes its
values separated by commas in the environment. What has no flag is a secret: the command line of a process can be read by
everybody on the machine. In YAML a limit stands in the Broker resource, either under the field that
the table names or as \`spec.millrace.<name>\`, the name being the flag's in camel case (\`--connections-max\`:
\`connectionsMax\`). Bytes may be written as \`64Mi\`, \`64MiB\` or \`64M\`, powers of 1024.

${sections.join('\n')}`
}

function pageRow([name, setting]: readonly [string, Setting<unknown>]): string {
  const flag = setting.isSecret ? '–' : `\`${flagName(name)}${setting.placeholder === '' ? '' : ` ${setting.placeholder}`}\``
  const cells = [flag, `\`${variableName(name)}\``, setting.defaultText, setting.allowed, setting.help]
  return `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`
}
