import { expect, it } from 'vitest'
import { abortable } from './abortable.js'

it('keeps no chunk of a stream that goes on', async () => {
  const collected = new Set<number>()
  const registry = new FinalizationRegistry((place: number) => collected.add(place))
  async function* source() {
    for (let place = 0; place < 200; place++) {
      const chunk = new Uint8Array(1024 * 1024)
      registry.register(chunk, place)
      yield await Promise.resolve(chunk)
    }
    // Garbage is collected when memory is wanted: it is, until the first chunk has gone.
    for (let more = 0; more < 1_000 && !collected.has(0); more++) {
      await new Promise(setImmediate)
      yield new Uint8Array(1024 * 1024)
    }
  }
  for await (const chunk of abortable(source(), new AbortController().signal)) expect(chunk.length).toBe(1024 * 1024)
  expect(collected).toContain(0)
})
