import type { Owner } from '#shared/cluster/directory.ts'
import { PROTOCOL_VERSION_RIGHTS, PROTOCOL_VERSION_STORE } from '#shared/rpc/handshake.ts'
import type { Link } from '#shared/rpc/link.ts'
import type { OwnerPort } from '#shared/rpc/owner-port.ts'
import { UnansweredParts } from './publishes.ts'

/** An open link to a backend, and what this frontend waits for from it. */
export class OwnerLink implements Owner {
  readonly link: Link
  readonly calls: OwnerPort
  readonly parts = new UnansweredParts()
  /** Shards that open elsewhere, or here again, once this link has answered for them. */
  gates = 0
  isCongested = false
  /** Sent since it is congested. */
  congestedBytes = 0
  /** The backend is short of memory. */
  isFull = false

  constructor(link: Link, calls: OwnerPort) {
    this.link = link
    this.calls = calls
  }

  /** It is of a version that can be told what a client may do. */
  get knowsRights(): boolean {
    return this.link.peer.protocolVersion >= PROTOCOL_VERSION_RIGHTS
  }

  /** It is of a version that has a state store. */
  get knowsStore(): boolean {
    return this.link.peer.protocolVersion >= PROTOCOL_VERSION_STORE
  }
}
