import type { ReasonCode } from './reason-code.ts'

/** A normative statement (`MQTT-3.1.0-2`) or a section (`§1.5.5`) of the MQTT 5.0 specification. */
export type Clause = `MQTT-${string}` | `§${string}`

/** The client broke the protocol. Its connection ends; nobody else notices. */
export class ProtocolError extends Error {
  override readonly name: string = 'ProtocolError'
  /** goes out in DISCONNECT, or in CONNACK while connecting */
  readonly reason: ReasonCode
  /** in every log line of it */
  readonly clause: Clause

  constructor(reason: ReasonCode, clause: Clause, detail: string) {
    super(`${detail} [${clause}]`)
    this.reason = reason
    this.clause = clause
  }
}
