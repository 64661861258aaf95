/** A text with a block of PEM that is broken. */
export class PemError extends Error {
  override readonly name = 'PemError'
}

const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/

/**
 * Content of each block with one of `labels` (RFC 7468) in a text that may hold other blocks and other text.
 * @throws {PemError} a block does not end, or is no base64
 */
export function pemBlocks(text: string, labels: readonly string[]): readonly Buffer[] {
  const blocks: Buffer[] = []
  let open: { readonly label: string; readonly lines: string[] } | null = null
  for (const line of text.split(/\r\n|\r|\n/).map(each => each.trim())) {
    const mark = /^-----(BEGIN|END) ([^-]*)-----$/.exec(line)
    if (mark?.[1] === 'BEGIN') {
      if (open !== null) throw new PemError(`a block ${open.label} does not end`)
      open = { label: mark[2]!, lines: [] }
    } else if (mark !== null) {
      if (open?.label !== mark[2]) throw new PemError(`the end of a block ${mark[2]} that did not begin`)
      if (labels.includes(open!.label)) blocks.push(decodeBlock(open!.label, open!.lines.join('')))
      open = null
    } else open?.lines.push(line)
  }
  if (open !== null) throw new PemError(`a block ${open.label} does not end`)
  return blocks
}

function decodeBlock(label: string, base64: string): Buffer {
  if (base64.length % 4 !== 0 || !BASE64.test(base64)) throw new PemError(`a block ${label} is no base64`)
  return Buffer.from(base64, 'base64')
}

/** One block. */
export function pemOf(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n')
}
