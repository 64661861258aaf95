import { expect, test } from 'vitest'
import { MemoryWatch, processMemory } from './memory-watch.ts'

/** Live bytes, and garbage on top until it is collected. */
class FakeMemory {
  live = 0
  garbage = 0
  collections = 0

  inUseBytes(): number {
    return this.live + this.garbage
  }

  collect(): void {
    this.collections++
    this.garbage = 0
  }
}

test('garbage over the limit is collected and no reason to say so; live memory is', () => {
  const memory = new FakeMemory()
  const watch = new MemoryWatch(100, memory)
  memory.live = 50
  expect([watch.check(), memory.collections]).toEqual([false, 0])
  memory.garbage = 80
  expect([watch.check(), memory.collections]).toEqual([false, 1])
  memory.live = 120
  expect([watch.check(), memory.collections]).toEqual([true, 2])
})

test('once over it stays over until less is in use, and does not collect at every check', () => {
  const memory = new FakeMemory()
  const watch = new MemoryWatch(100, memory)
  memory.live = 150
  expect(Array.from({ length: 12 }, () => watch.check())).toEqual(Array.from({ length: 12 }, () => true))
  expect(memory.collections).toBe(2)
  memory.live = 20
  memory.garbage = 130
  const verdicts = Array.from({ length: 6 }, () => watch.check())
  expect(verdicts.at(-1)).toBe(false)
})

test('garbage that is back over the limit at each check is not collected at each, nor a reason to say so', () => {
  const memory = new FakeMemory()
  const watch = new MemoryWatch(100, memory)
  memory.live = 95
  for (let check = 0; check < 12; check++) {
    memory.garbage = 10
    expect(watch.check()).toBe(false)
  }
  expect(memory.collections).toBe(2)
})

test('far over the limit it is collected at once, however short ago it was', () => {
  const memory = new FakeMemory()
  const watch = new MemoryWatch(100, memory)
  memory.live = 95
  memory.garbage = 10
  watch.check()
  memory.garbage = 20
  expect([watch.check(), memory.collections]).toEqual([false, 2])
  memory.live = 120
  expect([watch.check(), memory.collections]).toEqual([true, 3])
})

test('the memory of this process shrinks when what nobody holds is collected', async () => {
  const memory = processMemory()
  let held: Buffer[] | null = Array.from({ length: 64 }, () => Buffer.alloc(1 << 20, 1))
  const full = memory.inUseBytes()
  expect(held.length).toBe(64)
  held = null
  memory.collect()
  await expect.poll(() => full - memory.inUseBytes()).toBeGreaterThan(32 << 20)
})
