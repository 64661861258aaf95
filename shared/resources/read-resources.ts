import type { ListenerPort } from './broker-listener.ts'
import { readSnapshot } from './read-snapshot.ts'
import type { ResourceFiles } from './resource-directory.ts'
import { readYaml } from './yaml-document.ts'

/** A port that some BrokerListener asks for. */
export interface RequestedPort {
  /** `BrokerListener NAME port N` */
  readonly name: string
  /** `file:line: spec.ports[0]`, for faults. */
  readonly where: string
  readonly port: ListenerPort
}

export interface Resources {
  /** Values of settings, by name, that the Broker resource gives. */
  readonly values: ReadonlyMap<string, unknown>
  readonly ports: readonly RequestedPort[]
  /** One key of a Secret, from a document or a mounted directory; null when there is none. */
  secret(name: string, key: string): string | null
  /** What is accepted and has no effect. */
  readonly warnings: readonly string[]
}

/** Reads all documents; every fault of every file goes to `faults` as `file:line: field: message`. */
export function readResources(files: ResourceFiles, faults: string[]): Resources {
  const documents = files.yaml.flatMap(({ file, text }) => readYaml(file, text, faults))
  const snapshot = readSnapshot({ documents, mountedSecret: () => null, mountedConfigMap: () => null }, faults)
  const { values, warnings } = snapshot
  const ports = [...snapshot.listeners.values()].flatMap(listener =>
    listener.spec.ports.map((port, index) => ({
      name: `BrokerListener ${listener.name} port ${port.port}`,
      where: `${listener.where}: spec.ports[${index}]`,
      port,
    })),
  )
  const secret = (name: string, key: string): string | null => {
    const bytes = snapshot.secret(name)?.get(key)
    return bytes === undefined ? files.secret(name, key) : Buffer.from(bytes).toString('utf8')
  }
  return { values, ports, warnings, secret }
}
