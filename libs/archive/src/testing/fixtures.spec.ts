import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { FIXTURES, fixtureListing, openFixture } from './fixtures.js'

const sums = readFileSync(new URL('../../fixtures/SHA256SUMS', import.meta.url), 'utf8')

it.each([...FIXTURES, 'docker20-odd.rootfs.jsonl'] as const)('%s comes out as its tool wrote it', async (name) => {
  const hash = createHash('sha256')
  for await (const chunk of openFixture(name) as AsyncIterable<Buffer>) hash.update(chunk)
  expect(sums).toContain(`${hash.digest('hex')}  ${name}\n`)
})

it('lists the root file system of fx/odd:3', async () => {
  const lines = await fixtureListing()
  expect(lines.length).toBeGreaterThan(100)
  expect(JSON.parse(lines[0]!)).toHaveProperty('pathBase64')
})

it('reports a fixture that is not there as the stream’s error', async () => {
  await expect(openFixture('no.tar' as 'docker20-odd.tar').toArray()).rejects.toThrow('ENOENT')
})
