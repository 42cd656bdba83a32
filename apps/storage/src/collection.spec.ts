import type { Images } from '@strata/images'
import type { JobContext, Journal, NodeDirectory, Producer } from '@strata/queue'
import type { Collector } from '@strata/store'
import { expect, it } from 'vitest'
import { Collection } from './collection.js'

it('what cannot be read is warned of by name up to a hundred at each collection; the rest is counted', async () => {
  const unreadable = Array.from({ length: 10_000 }, (_, at) => ({ name: `n${at}`, reason: 'it is damaged' }))
  const report = { bytes: 0, partialUploads: { bytes: 0 }, undeleted: { count: 3, bytes: 77 }, linked: 0 }
  const warnings: string[] = []
  const collection = new Collection(
    { collect: () => Promise.resolve({ report, indexes: [], unreadable }) } as unknown as Collector,
    { tidyNames: () => Promise.resolve(), all: {} } as unknown as Images,
    {} as Journal,
    {} as Producer,
    { list: () => Promise.resolve([]), known: () => Promise.resolve([]) } as unknown as NodeDirectory,
    (message) => void warnings.push(message),
  )
  const context = { progress: () => Promise.resolve(), signal: new AbortController().signal } as unknown as JobContext
  const data = { root: 'r', dryRun: false, untagged: false, absentContainers: [] }
  expect((await collection.run(data, context)).unreadable.count).toBe(10_000)
  expect(warnings).toHaveLength(102)
  expect(warnings[99]).toContain('n99')
  expect(warnings[100]).toContain('9900 more')
  expect(warnings[101]).toContain('3 objects of 77 bytes')
})
