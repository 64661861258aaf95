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
      case AuthServiceMethod.Authenticate: {
        const request = body.varint()
        const asked = readAuthenticationRequest(body)
        expectEnd(method, body)
        return this.#port.authenticate(request, asked)
      }
      case AuthServiceMethod.Authorize: {
        const request = body.varint()
        const asked = readAuthorizationRequest(body)
        expectEnd(method, body)
        return this.#port.authorize(request, asked)
      }
      case AuthServiceMethod.Recheck: {
        const request = body.varint()
        const asked = readRecheckRequest(body)
        expectEnd(method, body)
        return this.#port.recheck(request, asked)
      }
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
      case AuthAskerMethod.Verdict: {
        const request = body.varint()
        const verdict = readVerdict(body)
        expectEnd(method, body)
        return this.#port.verdict(request, verdict)
      }
      case AuthAskerMethod.Authorized: {
        const request = body.varint()
        const verdict = readAuthorizationVerdict(body)
        expectEnd(method, body)
        return this.#port.authorized(request, verdict)
      }
      case AuthAskerMethod.Rechecked: {
        const request = body.varint()
        const verdict = readRecheckVerdict(body)
        expectEnd(method, body)
        return this.#port.rechecked(request, verdict)
      }
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
