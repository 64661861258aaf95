import { totalmem } from 'node:os'

const DEFAULT_SHARE = 0.75

/** Memory of the machine and, where there is one, the limit of the control group. */
export interface MachineMemory {
  readonly totalBytes: number
  /** 0 or a number beyond `totalBytes`: no limit. */
  readonly constrainedBytes: number
}

export function machineMemory(): MachineMemory {
  return { totalBytes: totalmem(), constrainedBytes: process.constrainedMemory() }
}

/** What a process may use when nothing is configured, bytes. */
export function defaultMemoryBytes(memory: MachineMemory): number {
  const limit = memory.constrainedBytes > 0 ? Math.min(memory.constrainedBytes, memory.totalBytes) : memory.totalBytes
  return Math.floor(limit * DEFAULT_SHARE)
}
