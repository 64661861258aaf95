import { readdirSync } from 'node:fs'
import { constants, monitorEventLoopDelay, type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks'
import type { MetricsRegistry } from './metrics.ts'

/** A timer that does nothing is due so often, and how late it comes is what is measured: some 0.1 % of a core. */
const DELAY_RESOLUTION_MS = 10
const NS_PER_SECOND = 1e9

/** Memory, processor, event loop, garbage collection and open files of this process. */
export function registerProcessMetrics(registry: MetricsRegistry): void {
  registry.gauge('process_resident_memory_bytes', 'Resident memory.', () => process.memoryUsage.rss())
  registry.gauge('nodejs_heap_size_used_bytes', 'JavaScript heap in use.', () => process.memoryUsage().heapUsed)
  registry.gauge('nodejs_external_memory_bytes', 'Memory of buffers outside the heap.', () => process.memoryUsage().external)
  registry.gauge('process_open_fds', 'Open file descriptors; -1 where the system does not tell.', openFiles)
  registry.counterFrom('process_cpu_user_seconds_total', 'Processor time in user mode.', () => process.cpuUsage().user / 1e6)
  registry.counterFrom('process_cpu_system_seconds_total', 'Processor time in the kernel.', () => process.cpuUsage().system / 1e6)
  registerEventLoop(registry)
  registerCollections(registry)
}

function registerEventLoop(registry: MetricsRegistry): void {
  const delay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS })
  delay.enable()
  registry.gauge('nodejs_eventloop_delay_seconds', 'Delay of the event loop since the last scrape.', () => {
    const samples = (
      [
        ['p50', 50],
        ['p99', 99],
        ['max', 100],
      ] as const
    ).map(([name, percentile]) => ({
      labels: [['quantile', name]] as const,
      value: Math.max(0, delay.percentile(percentile) / NS_PER_SECOND - DELAY_RESOLUTION_MS / 1e3),
    }))
    delay.reset()
    return samples
  })
}

function registerCollections(registry: MetricsRegistry): void {
  const seconds = registry.histogram('millrace_gc_pause_seconds', 'Pauses for garbage collection.', [0.001, 0.005, 0.02, 0.1, 0.5])
  const major = registry.counter('millrace_gc_major_total', 'Full garbage collections.')
  const observer = new PerformanceObserver(list => {
    for (const entry of list.getEntries()) {
      seconds.observe(entry.duration / 1e3)
      if (isMajor(entry)) major.add(1)
    }
  })
  observer.observe({ entryTypes: ['gc'] })
}

function isMajor(entry: PerformanceEntry): boolean {
  const detail: unknown = 'detail' in entry ? entry.detail : null
  return typeof detail === 'object' && detail !== null && 'kind' in detail && detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR
}

function openFiles(): number {
  try {
    return readdirSync('/proc/self/fd').length
  } catch {
    return -1
  }
}
