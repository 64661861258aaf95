import { ManualClock } from '#shared/base/clock.ts'
import { MemoryRegistry } from './memory-registry.contract.ts'
import { describeRegistry } from './registry.contract.ts'

describeRegistry('memory', () => {
  const clock = new ManualClock()
  const registries = new Map<string, MemoryRegistry>()
  return Promise.resolve({
    open: name => {
      const registry = registries.get(name) ?? new MemoryRegistry(clock)
      registries.set(name, registry)
      return registry
    },
    pass: ms => Promise.resolve(clock.advance(ms)),
    dispose: () => Promise.resolve(),
  })
})
