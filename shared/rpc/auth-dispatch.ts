import { type ByteReader, ByteReaderError } from '#shared/base/byte-reader.ts'
import {
  readAuthenticationRequest,
  readAuthorizationRequest,
  readAuthorizationVerdict,
  readRecheckRequest,
  readRecheckVerdict,
  readVerdict,
} from './auth-bodies.ts'
import type { AuthAskerPort, AuthServicePort } from './auth-port.ts'
import { readFlag, readText } from './body-fields.ts'
import { expectEnd } from './dispatch.ts'
import { AuthAskerMethod, AuthServiceMethod } from './methods.ts'

/** Number and body of a call. */
function received<T>(method: number, body: ByteReader, read: (body: ByteReader) => T): [request: number, body: T] {
  const request = body.varint()
  const value = read(body)
  expectEnd(method, body)
  return [request, value]
}

/** The service's end of a link: reads the frames that AuthServiceCalls writes and makes the calls. See OwnerDispatch. */
export class AuthServiceDispatch {
  readonly #port: AuthServicePort
  readonly #isPeerNewer: boolean
  /** Calls that we do not know, of a newer peer. */
  framesSkipped = 0

  /** @param isPeerNewer the peer may make calls that we do not know: they are skipped and counted, not refused */
  constructor(port: AuthServicePort, isPeerNewer: boolean) {
    this.#port = port
    this.#isPeerNewer = isPeerNewer
  }

  /**
   * As LinkHandler.onFrame.
   * @throws {ByteReaderError} the body is not what the method's layout says, or the method is unknown
   */
  dispatch(method: number, body: ByteReader): void {
    switch (method) {
      case AuthServiceMethod.Authenticate:
        return this.#port.authenticate(...received(method, body, readAuthenticationRequest))
      case AuthServiceMethod.Authorize:
        return this.#port.authorize(...received(method, body, readAuthorizationRequest))
      case AuthServiceMethod.Recheck:
        return this.#port.recheck(...received(method, body, readRecheckRequest))
      default:
        if (!this.#isPeerNewer) throw new ByteReaderError(`unknown call ${method} to an authentication service`)
        this.framesSkipped++
    }
  }
}

/** The frontend's end of a link: reads the frames that AuthAskerCalls writes. */
export class AuthAskerDispatch {
  readonly #port: AuthAskerPort
  readonly #isPeerNewer: boolean
  /** Calls that we do not know, of a newer peer. */
  framesSkipped = 0

  constructor(port: AuthAskerPort, isPeerNewer: boolean) {
    this.#port = port
    this.#isPeerNewer = isPeerNewer
  }

  /**
   * As LinkHandler.onFrame.
   * @throws {ByteReaderError} the body is not what the method's layout says, or the method is unknown
   */
  dispatch(method: number, body: ByteReader): void {
    switch (method) {
      case AuthAskerMethod.Verdict:
        return this.#port.verdict(...received(method, body, readVerdict))
      case AuthAskerMethod.Authorized:
        return this.#port.authorized(...received(method, body, readAuthorizationVerdict))
      case AuthAskerMethod.Rechecked:
        return this.#port.rechecked(...received(method, body, readRecheckVerdict))
      default:
        return this.#dispatchNews(method, body)
    }
  }

  #dispatchNews(method: number, body: ByteReader): void {
    switch (method) {
      case AuthAskerMethod.Standing: {
        const authentication = readText(body)
        const digest = readText(body)
        const isChanged = readFlag(body)
        expectEnd(method, body)
        return this.#port.standing(authentication, digest, isChanged)
      }
      case AuthAskerMethod.Leaving:
        expectEnd(method, body)
        return this.#port.leaving()
      default:
        if (!this.#isPeerNewer) throw new ByteReaderError(`unknown call ${method} to a frontend`)
        this.framesSkipped++
    }
  }
}
