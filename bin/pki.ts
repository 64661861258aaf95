import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createPki, PkiError } from '#shared/config/pki.ts'
import { readFlags, resolveSettings } from '#shared/config/read-settings.ts'
import { text } from '#shared/config/setting.ts'
import { flagsHelp } from '#shared/config/settings-page.ts'
import { SettingsError } from '#shared/config/settings-error.ts'
import { type Command, ExitCode, print } from './command.ts'

const pkiSettings = {
  serverNames: text({
    default: 'localhost,127.0.0.1,::1',
    placeholder: 'NAME[,NAME]',
    maxLength: 4_096,
    help: 'Names and addresses that the certificates of server and members hold for.',
  }),
  clientName: text({ default: 'millrace-client', placeholder: 'NAME', maxLength: 64, help: 'Common Name of the client certificate.' }),
} as const

/** `millrace pki DIR` */
export const pki: Command = {
  help: () => `Usage: millrace pki DIR [FLAGS]

Writes certificates and keys to DIR, over what is there: of an authority, a server and a client, and of an authority and a member for the
internal links of a cluster; and prints the settings that use them. For development and tests, not for production: the authority's key lies beside the certificates.

${flagsHelp([{ title: 'Flags', settings: pkiSettings }])}`,
  run: async args => {
    const [directory, ...flags] = args
    if (directory === undefined || directory.startsWith('-')) throw new SettingsError(['a directory is missing: millrace pki DIR'])
    const settings = resolveSettings(pkiSettings, readFlags(pkiSettings, flags), {})
    const isReplaced = existsSync(join(resolve(directory), 'ca.crt'))
    try {
      const files = await createPki(resolve(directory), { serverNames: settings.serverNames.split(','), clientName: settings.clientName })
      print(`Broker:  npx millrace start --mqtts 127.0.0.1:8883 --wss 127.0.0.1:8884 \\
           --tls-cert ${files.serverCert} --tls-key ${files.serverKey} --tls-client-ca ${files.ca}
Client:  mosquitto_pub -h localhost -p 8883 --cafile ${files.ca} --cert ${files.clientCert} --key ${files.clientKey} -t hello -m world
Cluster: npx millrace cluster --rpc-tls-cert ${files.memberCert} --rpc-tls-key ${files.memberKey} --rpc-tls-ca ${files.memberCa}
Without --tls-client-ca the broker asks clients for no certificate, and --cert and --key are not needed.`)
      if (isReplaced)
        process.stderr.write(
          `millrace pki: the certificates that were in ${directory} are replaced; copies of them do not fit the new ones\n`,
        )
      return ExitCode.Success
    } catch (error) {
      if (!(error instanceof PkiError) && !(error instanceof Error && 'code' in error)) throw error
      process.stderr.write(`millrace pki: ${error.message}\n`)
      return ExitCode.Failure
    }
  },
}
