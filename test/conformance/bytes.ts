/** Big-endian field encoders of MQTT (§1.5), used to write any packet byte by byte. Deliberately independent of the broker's own codec. */

export function u8(value: number): Buffer {
  return Buffer.from([value & 0xff])
}

export function u16(value: number): Buffer {
  return Buffer.from([(value >> 8) & 0xff, value & 0xff])
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** Variable Byte Integer in the fewest bytes (§1.5.5). */
export function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  do {
    const low = rest % 128
    rest = Math.floor(rest / 128)
    bytes.push(rest > 0 ? low | 0x80 : low)
  } while (rest > 0)
  return Buffer.from(bytes)
}

/** Binary Data, or a UTF-8 Encoded String when given text: two bytes of length, then the bytes. */
export function field(value: string | Buffer): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value
  return Buffer.concat([u16(bytes.length), bytes])
}

/** Bytes written as hex, with spaces where they help reading. */
export function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(/\s+/g, ''), 'hex')
}

/** A whole Control Packet: first byte, Remaining Length, body. */
export function frame(firstByte: number, ...body: Buffer[]): Buffer {
  const bytes = Buffer.concat(body)
  return Buffer.concat([u8(firstByte), varint(bytes.length), bytes])
}

/** Reads fields in order and throws at the first byte that is missing or wrong. */
export class FieldReader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get left(): number {
    return this.#bytes.length - this.#at
  }

  take(count: number): Buffer {
    if (count > this.left)
      throw new Error(`the broker sent a packet that ends ${count - this.left} bytes early: ${this.#bytes.toString('hex')}`)
    const taken = this.#bytes.subarray(this.#at, this.#at + count)
    this.#at += count
    return taken
  }

  rest(): Buffer {
    return this.take(this.left)
  }

  u8(): number {
    return this.take(1).readUInt8()
  }

  u16(): number {
    return this.take(2).readUInt16BE()
  }

  u32(): number {
    return this.take(4).readUInt32BE()
  }

  binary(): Buffer {
    return this.take(this.u16())
  }

  /** Throws unless the text is well-formed and free of U+0000; a leading U+FEFF is kept. */
  utf8(): string {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(this.binary())
    if (text.includes('\0')) throw new Error('the broker sent U+0000 in a string')
    return text
  }

  /** Throws when the broker used more bytes than needed. */
  varint(): number {
    let value = 0
    for (let power = 1, count = 1; count <= 4; power *= 128, count++) {
      const byte = this.u8()
      value += (byte & 0x7f) * power
      if (byte & 0x80) continue
      if (byte === 0 && count > 1) throw new Error('the broker sent a Variable Byte Integer that is not minimal')
      return value
    }
    throw new Error('the broker sent a Variable Byte Integer of more than four bytes')
  }
}
