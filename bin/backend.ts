import { BACKEND_SETTINGS, loadBackendSettings } from '#shared/config/load-role-settings.ts'
import { flagsHelp } from '#shared/config/settings-page.ts'
import { startBackendRole } from './roles/backend-role.ts'
import type { Command } from './command.ts'
import { runMember } from './member-program.ts'

/** `millrace backend` */
export const backend: Command = {
  help: () => `Usage: millrace backend --redis URL [FLAGS]

Starts one backend of a cluster: it owns a share of the sessions and Retained Messages, and keeps them in Redis. Every flag has an
environment variable: --cluster-name is MILLRACE_CLUSTER_NAME. SIGTERM and SIGINT drain: what it owns goes to other backends, the exit code
is 0. A second signal exits at once. docs/cluster.md describes a cluster.

${flagsHelp(BACKEND_SETTINGS)}`,
  run: args => runMember('backend', args, { groups: BACKEND_SETTINGS, load: loadBackendSettings }, startBackendRole),
}
