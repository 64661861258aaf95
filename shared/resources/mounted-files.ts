import type { MountKind } from './source-directory-scan.ts'

/** Secrets and ConfigMaps as directories hold them: a file for each key. */
export class MountedFiles {
  readonly #secrets = new Map<string, Map<string, Uint8Array>>()
  readonly #configMaps = new Map<string, Map<string, string>>()

  add({ kind, name, key }: { readonly kind: MountKind; readonly name: string; readonly key: string }, bytes: Uint8Array): void {
    if (kind === 'secrets') put(this.#secrets, name, key, bytes)
    else put(this.#configMaps, name, key, Buffer.from(bytes).toString('utf8'))
  }

  secret(name: string): ReadonlyMap<string, Uint8Array> | null {
    return this.#secrets.get(name) ?? null
  }

  configMap(name: string): ReadonlyMap<string, string> | null {
    return this.#configMaps.get(name) ?? null
  }
}

function put<Value>(objects: Map<string, Map<string, Value>>, name: string, key: string, value: Value): void {
  const keys = objects.get(name)
  if (keys === undefined) objects.set(name, new Map([[key, value]]))
  else keys.set(key, value)
}
