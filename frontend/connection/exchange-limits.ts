/** Questions to the authentication service in one exchange, the first included. */
const ROUNDS_MAX = 10
/** Authentication Data of one exchange, both ways. */
const DATA_BYTES_MAX = 64 * 1024

/** How much an exchange of AUTH packets (§4.12) has taken so far. One that would take more has failed. */
export class ExchangeLimits {
  #rounds = 0
  #dataBytes = 0

  /** The client's next packet with this Authentication Data. False: too much. */
  admit(data: Uint8Array | null): boolean {
    this.#rounds++
    return this.send(data) && this.#rounds <= ROUNDS_MAX
  }

  /** Ours. False: too much. */
  send(data: Uint8Array | null): boolean {
    this.#dataBytes += data?.length ?? 0
    return this.#dataBytes <= DATA_BYTES_MAX
  }
}
