import { cp, mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { stringify } from 'yaml'

/** The directory of `--config`. What is written is there at once and as a whole, as whoever watches must never see half of it. */
export class ResourceDirectory {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  async copyTo(path: string): Promise<ResourceDirectory> {
    await cp(this.path, path, { recursive: true })
    return new ResourceDirectory(path)
  }

  async write(file: string, text: string | Buffer): Promise<void> {
    const place = join(this.path, file)
    await mkdir(dirname(place), { recursive: true })
    // A name that no resource has, until it is whole.
    const unfinished = join(this.path, `.${file.replaceAll('/', '-')}.new`)
    await writeFile(unfinished, text)
    await rename(unfinished, place)
  }

  async remove(file: string): Promise<void> {
    await rm(join(this.path, file), { recursive: true })
  }

  /** One document of ours. */
  async resource(kind: string, name: string, spec: object): Promise<void> {
    const document = { apiVersion: 'mqttbroker.iotoperations.azure.com/v1', kind, metadata: { name }, spec }
    await this.write(`${kind}-${name}.yaml`, stringify(document))
  }

  /** Entries as `millrace passwd` writes them. */
  async users(secret: string, entries: readonly object[]): Promise<void> {
    const document = { apiVersion: 'v1', kind: 'Secret', metadata: { name: secret }, stringData: { users: stringify(entries) } }
    await this.write(`secret-${secret}.yaml`, stringify(document))
  }
}
