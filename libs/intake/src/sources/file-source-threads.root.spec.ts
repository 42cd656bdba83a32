import { createHash } from 'node:crypto'
import { closeSync, mkdtempSync, openSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { decodeListing } from '@strata/archive'
import { header } from '@strata/archive/testing'
import { FolderStore, mendTail } from '@strata/store'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { createIntake } from '../index.js'

vi.mock('node:os', async (original) => ({
  ...(await original<typeof import('node:os')>()),
  availableParallelism: () => 5,
}))

const SIZE = 65 * 1024 * 1024
let root: string
beforeAll(() => {
  root = mkdtempSync('/var/tmp/strata-threads-')
})
afterAll(() => rmSync(root, { recursive: true, force: true }))

it('has a thread for each large file, where there are cores, and comes to the right digests', async () => {
  const path = join(root, 'archive')
  writeFileSync(path, '')
  const fd = openSync(path, 'r+')
  const files = ['a', 'b', 'c', 'd']
  // Holes but for a few bytes: nothing to write here, all to read there.
  for (const [i, name] of files.entries()) {
    writeSync(fd, header({ name, size: SIZE }), 0, 512, i * (SIZE + 512))
    writeSync(fd, Buffer.from(name), 0, 1, i * (SIZE + 512) + 512 + 30_000_000)
  }
  closeSync(fd)
  truncateSync(path, files.length * (SIZE + 512) + 1024)
  const store = await FolderStore.open(join(root, 'store'), mendTail)
  const intake = createIntake({ store })
  const file = openSync(path, 'r')
  try {
    const { listing } = await intake.receiveFile({ fd: file, size: statSync(path).size }, { upload: 'u' })
    const { entries } = decodeListing((await store.read(listing, 2 ** 20))!.bytes)
    expect(entries.map(({ name, digest }) => [name, digest])).toEqual(
      files.map((name) => {
        const bytes = Buffer.alloc(SIZE)
        bytes.write(name, 30_000_000)
        return [name, `sha256:${createHash('sha256').update(bytes).digest('hex')}`]
      }),
    )
    for (const { at } of entries) expect((await store.stat(at!.object))?.size).toBe(SIZE)
  } finally {
    closeSync(file)
    await intake.close()
    await store.close()
  }
})
