import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmdirSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { concat, file, ZEROS } from '@strata/archive/testing'
import { LayerFolder } from '@strata/layers'
import { mount, umount } from '@strata/linux'
import { asStrataError } from '@strata/base'
import { digestFromHex, type DiffId } from '@strata/oci'
import { BlobStore, freshDataKey, Leases } from '@strata/store'
import { temporaryStore } from '@strata/store/testing'
import { expect, it } from 'vitest'
import { LayerMaker } from './layer-maker.js'

const MIB = 1024 * 1024
const digestOf = (bytes: Uint8Array) => digestFromHex(createHash('sha256').update(bytes).digest('hex'))

it.each(['plain', 'packed'])(
  'a %s layer that the node has no room for is refused as storage_full, at every point, and leaves nothing; with room it is made',
  async (kind) => {
    // Many small files, so that the index takes room too.
    const tar = concat(
      ...Array.from({ length: 2_000 }, (_, n) => file(`a-folder/with-a-long-name/${n}-${'x'.repeat(80)}`, `${n}`)),
      file('big', randomBytes(MIB)),
      ZEROS,
    )
    const bytes = kind === 'plain' ? tar : gzipSync(tar)
    const layer = { digest: digestOf(bytes), diffId: digestOf(tar) as DiffId, size: bytes.length }
    const { store, dispose } = await temporaryStore()
    const node = mkdtempSync(join(tmpdir(), 'strata-full-node-'))
    mount('tmpfs', node, 'tmpfs', 0, 'size=8m')
    const folder = new LayerFolder(join(node, 'layers'))
    const blobs = new BlobStore(store)
    const maker = await LayerMaker.open(store, blobs, folder)
    try {
      await new Leases(store).create('u', { job: { kind: 'load', id: 'u' }, request: {} })
      const data = freshDataKey('u')
      await store.put(data, bytes)
      await blobs.commit(layer.digest, { data, size: bytes.length }, 'u')
      const filler = join(node, 'filler')
      let room = 0
      for (; ; room += 512 * 1024) {
        writeFileSync(filler, '')
        truncateSync(filler)
        expect(room).toBeLessThan(8 * MIB)
        writeFileSync(filler, Buffer.alloc(8 * MIB - room - 64 * 1024))
        const failure: unknown = await maker.ensure(layer, new AbortController().signal).then(
          () => undefined,
          (error: unknown) => error,
        )
        if (failure === undefined) break
        expect(asStrataError(failure)).toMatchObject({ code: 'storage_full' })
        expect(readdirSync(folder.path)).toEqual(['tmp'])
        expect(readdirSync(join(folder.path, 'tmp'))).toEqual([])
      }
      expect(room).toBeGreaterThan(2 * MIB)
      expect(digestOf(readFileSync(folder.paths(layer.diffId).tar))).toBe(layer.diffId)
    } finally {
      await maker.close()
      umount(node)
      rmdirSync(node)
      await dispose()
    }
  },
)
