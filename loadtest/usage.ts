import { readdirSync, readFileSync } from 'node:fs'

/** USER_HZ: the unit of the times in /proc/PID/stat; 100 on every Linux that Node runs on. */
const TICKS_PER_S = 100

/** Seconds. */
export interface CpuUse {
  readonly userS: number
  readonly systemS: number
  /** Both together by the scheduler's nanosecond clock, but without threads that have ended. */
  readonly scheduledS: number
}

interface ProcessStat {
  readonly pid: number
  readonly parent: number
  readonly userTicks: number
  readonly systemTicks: number
}

/** Fields of /proc/PID/stat (proc(5)); the command may hold blanks and brackets, so the fields count from the last bracket. */
export function parseStat(pid: number, text: string): ProcessStat {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const field = (number: number): number => Number(fields[number - 3])
  return { pid, parent: field(4), userTicks: field(14) + field(16), systemTicks: field(15) + field(17) }
}

/** All threads of the processes and of their descendants, and children that have been waited for. Null without pids or without /proc. */
export function cpuOf(pids: readonly number[]): CpuUse | null {
  const tree = treeOf(pids)
  if (tree.length === 0) return null
  const sum = (pick: (stat: ProcessStat) => number): number => tree.reduce((total, stat) => total + pick(stat), 0) / TICKS_PER_S
  const scheduledS = tree.reduce((total, { pid }) => total + scheduledNs(pid), 0) / 1e9
  return { userS: sum(stat => stat.userTicks), systemS: sum(stat => stat.systemTicks), scheduledS }
}

/** First field of /proc/PID/task/TID/schedstat: nanoseconds on a CPU. 0 where the kernel keeps no such count. */
function scheduledNs(pid: number): number {
  let threads: string[]
  try {
    threads = readdirSync(`/proc/${pid}/task`)
  } catch {
    return 0 // ended meanwhile
  }
  return threads.reduce((total, thread) => total + Number(readProc(`${pid}/task/${thread}/schedstat`)?.split(' ')[0] ?? 0), 0)
}

/** Ticks are 10 ms: the two counts may differ by some of them for each process, but not by more. */
const TICK_SLACK_S = 0.05

/** The finer count of the two, unless threads have ended in between and the coarse one knows more. */
export function cpuSeconds(use: CpuUse): number {
  const ticksS = use.userS + use.systemS
  return Math.abs(use.scheduledS - ticksS) <= TICK_SLACK_S ? use.scheduledS : ticksS
}

/** Resident bytes of the processes and of their descendants. */
export function rssOf(pids: readonly number[]): number | null {
  const tree = treeOf(pids)
  if (tree.length === 0) return null
  return tree.reduce((total, { pid }) => {
    const line = /^VmRSS:\s+(\d+) kB$/m.exec(readProc(`${pid}/status`) ?? '')
    return total + (line ? Number(line[1]) * 1_024 : 0)
  }, 0)
}

export function cpuBetween(before: CpuUse | null, after: CpuUse | null): CpuUse | null {
  if (!before || !after) return null
  return { userS: after.userS - before.userS, systemS: after.systemS - before.systemS, scheduledS: after.scheduledS - before.scheduledS }
}

/** The named processes and everything that descends from them, as far as it is alive. */
export function treePids(pids: readonly number[]): number[] {
  return treeOf(pids).map(stat => stat.pid)
}

function treeOf(pids: readonly number[]): ProcessStat[] {
  if (pids.length === 0) return []
  const children = new Map<number, ProcessStat[]>()
  const found: ProcessStat[] = []
  for (const stat of allProcesses()) {
    if (pids.includes(stat.pid)) found.push(stat)
    const siblings = children.get(stat.parent)
    if (siblings) siblings.push(stat)
    else children.set(stat.parent, [stat])
  }
  const seen = new Set(found.map(stat => stat.pid))
  for (let at = 0; at < found.length; at++) {
    for (const child of children.get(found[at]!.pid) ?? []) {
      if (seen.has(child.pid)) continue
      seen.add(child.pid)
      found.push(child)
    }
  }
  return found
}

function allProcesses(): ProcessStat[] {
  let names: string[]
  try {
    names = readdirSync('/proc')
  } catch {
    return [] // not Linux: no figures, the rest works
  }
  return names
    .filter(name => /^\d+$/.test(name))
    .flatMap(name => {
      const text = readProc(`${name}/stat`)
      return text === null ? [] : [parseStat(Number(name), text)]
    })
}

/** Null when the process has ended meanwhile. */
function readProc(path: string): string | null {
  try {
    return readFileSync(`/proc/${path}`, 'latin1')
  } catch {
    return null
  }
}
