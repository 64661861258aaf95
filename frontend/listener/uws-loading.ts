import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

/** The part of uWebSockets.js that is the same in 20.30 (the npm fork, 2023) and in 20.69 (the official build), and that we use. */
export interface Uws {
  App(): UwsApp
  us_listen_socket_close(listenSocket: UwsListenSocket): void
  us_socket_local_port(listenSocket: UwsListenSocket): number
}

export interface UwsApp {
  ws<UserData>(pattern: string, behavior: UwsBehavior<UserData>): UwsApp
  any(pattern: string, handler: (response: UwsResponse, request: UwsRequest) => void): UwsApp
  listen(host: string, port: number, options: number, onListen: (listenSocket: UwsListenSocket | false) => void): UwsApp
}

export interface UwsBehavior<UserData> {
  readonly compression: number
  readonly maxPayloadLength: number
  /** Seconds. */
  readonly idleTimeout: number
  /** Bytes; 0: no limit. */
  readonly maxBackpressure: number
  readonly sendPingsAutomatically: boolean
  upgrade(response: UwsResponse, request: UwsRequest, context: UwsContext): void
  open(socket: UwsSocket<UserData>): void
  message(socket: UwsSocket<UserData>, message: ArrayBuffer, isBinary: boolean): void
  drain(socket: UwsSocket<UserData>): void
  close(socket: UwsSocket<UserData>, code: number, message: ArrayBuffer): void
}

export interface UwsResponse {
  writeStatus(status: string): UwsResponse
  writeHeader(name: string, value: string): UwsResponse
  end(body: string, closeConnection: boolean): UwsResponse
  getRemoteAddress(): ArrayBuffer
  upgrade<UserData>(data: UserData, key: string, protocol: string, extensions: string, context: UwsContext): void
}

/** Valid only during the call that brings it. */
export interface UwsRequest {
  getHeader(lowerCaseName: string): string
}

/** Valid until its `close` was called; every method throws afterwards. */
export interface UwsSocket<UserData> {
  send(bytes: Uint8Array, isBinary: boolean, compress: boolean): number
  getBufferedAmount(): number
  /** Sends a Close frame; calls the close handler before it returns. */
  end(code: number): void
  /** Calls the close handler before it returns. */
  close(): void
  getUserData(): UserData
}

export interface UwsListenSocket {
  readonly uwsListenSocket: never
}
export interface UwsContext {
  readonly uwsContext: never
}

/** The fork on npm: where it has no binary, it hands out an imitation whose `upgrade` throws. */
const FORK = '@trufflesuite/uws-js-unofficial'
const OFFICIAL = 'uWebSockets.js'

export type UwsLoading =
  | { readonly is: 'loaded'; readonly uws: Uws; readonly version: string }
  | { readonly is: 'absent'; readonly why: string }

/** uWebSockets.js, if it is installed, known to work, and loads natively in this process. Never loads an imitation knowingly. */
export async function loadUws(): Promise<UwsLoading> {
  const found = findPackage()
  if (found.is === 'absent') return found
  try {
    const module = (await import('uWebSockets.js')) as unknown as { readonly default: Uws & { readonly SSLApp?: unknown } }
    // The imitation has no TLS; a binary that is there but does not load ends up here too.
    if (typeof module.default.SSLApp !== 'function') return { is: 'absent', why: 'its binary does not load on this machine' }
    return { is: 'loaded', uws: module.default, version: found.version }
  } catch (error) {
    return { is: 'absent', why: (error as Error).message }
  }
}

function findPackage(): { readonly is: 'found'; readonly version: string } | { readonly is: 'absent'; readonly why: string } {
  let file: string
  try {
    file = createRequire(import.meta.url).resolve('uWebSockets.js/package.json')
  } catch {
    return { is: 'absent', why: 'the package is not installed' }
  }
  const { name, version } = JSON.parse(readFileSync(file, 'utf8')) as { readonly name: string; readonly version: string }
  if (name === OFFICIAL) return { is: 'found', version }
  if (name !== FORK) return { is: 'absent', why: `${name} ${version} is not a build that is known to work` }
  const { platform, arch, versions } = process
  const binary = join(dirname(file), 'binaries', `uws_${platform}_${arch}_${versions.modules}.node`)
  if (existsSync(binary)) return { is: 'found', version }
  return { is: 'absent', why: `${name} ${version} has no binary for Node ${versions.node} on ${platform} ${arch}` }
}
