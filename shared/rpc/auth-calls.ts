import type { ByteWriter } from '#shared/base/byte-writer.ts'
import {
  writeAuthenticationRequest,
  writeAuthorizationRequest,
  writeAuthorizationVerdict,
  writeRecheckRequest,
  writeRecheckVerdict,
  writeVerdict,
} from './auth-bodies.ts'
import type { AuthAskerPort, AuthServicePort } from './auth-port.ts'
import type {
  AuthenticationRequest,
  AuthorizationRequest,
  AuthorizationVerdict,
  RecheckRequest,
  RecheckVerdict,
  Verdict,
} from './authentication.ts'
import { writeFlag } from './body-fields.ts'
import type { Link } from './link.ts'
import { AuthAskerMethod, AuthServiceMethod } from './methods.ts'

/** A call and its number, by which the answer to it is known. */
function send<T>(link: Link, method: number, request: number, write: (writer: ByteWriter, body: T) => void, body: T): void {
  const writer = link.beginFrame(method)
  writer.varint(request)
  write(writer, body)
  link.endFrame()
}

/** The authentication service at the other end of a link: each call is a frame. Read by AuthServiceDispatch. */
export class AuthServiceCalls implements AuthServicePort {
  readonly #link: Link

  constructor(link: Link) {
    this.#link = link
  }

  authenticate(request: number, asked: AuthenticationRequest): void {
    send(this.#link, AuthServiceMethod.Authenticate, request, writeAuthenticationRequest, asked)
  }

  authorize(request: number, asked: AuthorizationRequest): void {
    send(this.#link, AuthServiceMethod.Authorize, request, writeAuthorizationRequest, asked)
  }

  recheck(request: number, asked: RecheckRequest): void {
    send(this.#link, AuthServiceMethod.Recheck, request, writeRecheckRequest, asked)
  }
}

/** The frontend at the other end of a link. Read by AuthAskerDispatch. */
export class AuthAskerCalls implements AuthAskerPort {
  readonly #link: Link

  constructor(link: Link) {
    this.#link = link
  }

  verdict(request: number, verdict: Verdict): void {
    send(this.#link, AuthAskerMethod.Verdict, request, writeVerdict, verdict)
  }

  authorized(request: number, verdict: AuthorizationVerdict): void {
    send(this.#link, AuthAskerMethod.Authorized, request, writeAuthorizationVerdict, verdict)
  }

  rechecked(request: number, verdict: RecheckVerdict): void {
    send(this.#link, AuthAskerMethod.Rechecked, request, writeRecheckVerdict, verdict)
  }

  standing(authentication: string, digest: string, isChanged: boolean): void {
    const writer = this.#link.beginFrame(AuthAskerMethod.Standing)
    writer.text(authentication)
    writer.text(digest)
    writeFlag(writer, isChanged)
    this.#link.endFrame()
  }

  leaving(): void {
    this.#link.beginFrame(AuthAskerMethod.Leaving)
    this.#link.endFrame()
  }
}
