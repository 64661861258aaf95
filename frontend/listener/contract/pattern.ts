/** The byte at `offset` of every test stream: both ends know it, so order and content are checked without sending the data twice. */
export function patternByte(offset: number): number {
  return (offset * 31 + (offset >>> 8) * 7) & 0xff
}

export function pattern(offset: number, length: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(length)
  for (let at = 0; at < length; at++) bytes[at] = patternByte(offset + at)
  return bytes
}

/** Follows a stream and remembers where it first went wrong. */
export class PatternCheck {
  receivedBytes = 0
  /** -1: nothing wrong so far. */
  mismatchAt = -1

  take(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && this.mismatchAt < 0; at++) {
      if (bytes[at] !== patternByte(this.receivedBytes + at)) this.mismatchAt = this.receivedBytes + at
    }
    this.receivedBytes += bytes.length
  }
}
