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

/** The authentication service at the other end of a link: each call is a frame. Read by AuthServiceDispatch. */
export class AuthServiceCalls implements AuthServicePort {
  readonly #link: Link

  constructor(link: Link) {
    this.#link = link
  }

  authenticate(request: number, asked: AuthenticationRequest): void {
    const writer = this.#link.beginFrame(AuthServiceMethod.Authenticate)
    writer.varint(request)
    writeAuthenticationRequest(writer, asked)
    this.#link.endFrame()
  }

  authorize(request: number, asked: AuthorizationRequest): void {
    const writer = this.#link.beginFrame(AuthServiceMethod.Authorize)
    writer.varint(request)
    writeAuthorizationRequest(writer, asked)
    this.#link.endFrame()
  }

  recheck(request: number, asked: RecheckRequest): void {
    const writer = this.#link.beginFrame(AuthServiceMethod.Recheck)
    writer.varint(request)
    writeRecheckRequest(writer, asked)
    this.#link.endFrame()
  }
}

/** The frontend at the other end of a link. Read by AuthAskerDispatch. */
export class AuthAskerCalls implements AuthAskerPort {
  readonly #link: Link

  constructor(link: Link) {
    this.#link = link
  }

  verdict(request: number, verdict: Verdict): void {
    const writer = this.#link.beginFrame(AuthAskerMethod.Verdict)
    writer.varint(request)
    writeVerdict(writer, verdict)
    this.#link.endFrame()
  }

  authorized(request: number, verdict: AuthorizationVerdict): void {
    const writer = this.#link.beginFrame(AuthAskerMethod.Authorized)
    writer.varint(request)
    writeAuthorizationVerdict(writer, verdict)
    this.#link.endFrame()
  }

  rechecked(request: number, verdict: RecheckVerdict): void {
    const writer = this.#link.beginFrame(AuthAskerMethod.Rechecked)
    writer.varint(request)
    writeRecheckVerdict(writer, verdict)
    this.#link.endFrame()
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
