import { AUTHSVC_SETTINGS, loadAuthsvcSettings } from '#shared/config/load-role-settings.ts'
import { flagsHelp } from '#shared/config/settings-page.ts'
import { startAuthsvcRole } from './roles/authsvc-role.ts'
import type { Command } from './command.ts'
import { runMember } from './member-program.ts'

/** `millrace authsvc` */
export const authsvc: Command = {
  help: () => `Usage: millrace authsvc --redis URL [FLAGS]

Starts one authentication service of a cluster: it tells frontends who a client is and what it may do, as the BrokerAuthentication and
BrokerAuthorization resources say (--config, --kubernetes). Every flag has an environment variable: --cluster-name is MILLRACE_CLUSTER_NAME.
SIGTERM and SIGINT drain: what it was asked is answered, frontends ask others, the exit code is 0. A second signal exits at once.
docs/authentication-service.md describes it.

${flagsHelp(AUTHSVC_SETTINGS)}`,
  run: args => runMember('authsvc', args, { groups: AUTHSVC_SETTINGS, load: loadAuthsvcSettings }, startAuthsvcRole),
}
