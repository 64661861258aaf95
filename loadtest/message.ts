/**
 * What each payload starts with (little endian): when it was sent, who sent it, which slot of the window it holds,
 * and which run it belongs to. The rest of the payload is filler.
 *   0 u32 stamp, microseconds modulo 2^32   4 u32 publisher   8 u32 generation << 12 | slot   12 u32 run
 */
export const MESSAGE_HEADER_BYTES = 16
export const SLOT_BITS = 12
export const SLOTS_MAX = 1 << SLOT_BITS
const SLOT_MASK = SLOTS_MAX - 1
/** A generation has the rest of the u32. */
export const GENERATION_MASK = (1 << (32 - SLOT_BITS)) - 1

export function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value
  bytes[at + 1] = value >>> 8
  bytes[at + 2] = value >>> 16
  bytes[at + 3] = value >>> 24
}

export function readU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
}

/** Slot and its generation in one u32. */
export function ticketOf(generation: number, slot: number): number {
  return ((generation << SLOT_BITS) | slot) >>> 0
}

export function slotOf(ticket: number): number {
  return ticket & SLOT_MASK
}

export function generationOf(ticket: number): number {
  return ticket >>> SLOT_BITS
}
