import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { ImageView } from '@strata/api'
import { Images } from '@strata/images'
import { digestOf, MEDIA, parseTagged } from '@strata/oci'
import { BlobStore, freshDataKey, keys, Leases } from '@strata/store'
import { TestS3, whyNoTestS3 } from '@strata/store/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { busyboxLayer, layerOf } from './testing/busybox-image.js'
import { settledStore } from './testing/store-state.js'
import { StrataUnderTest } from './testing/strata.js'

const MIB = 1024 * 1024
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

/** An image whose layers lie in three objects each, as a registry's client sends them in chunks. */
describe.each(['folder', 'minio'] as const)('an image in pieces, on %s', (kind) => {
  const why = kind === 'minio' ? whyNoTestS3('minio') : undefined
  if (why !== undefined) {
    it('is an image as any other', (context) => context.skip(why))
    return
  }
  let s3: TestS3 | undefined
  let strata: StrataUnderTest
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp('/var/tmp/strata-pieces-')
    s3 = kind === 'minio' ? await TestS3.start('minio', '/var/tmp') : undefined
    strata = await StrataUnderTest.start({ topology: 'standalone', store: s3 ?? 'folder' })
  })
  afterAll(async () => {
    await strata.dispose()
    await s3?.remove()
    await rm(folder, { recursive: true, force: true })
  })

  const [plainFile, packedFile] = [randomBytes(2 * MIB), randomBytes(MIB).toString('hex')]
  const name = 't/pieces:1'

  /** Gives the digests of the layers that lie in pieces. */
  async function push(): Promise<string[]> {
    const store = await strata.store()
    const [blobs, leases] = [new BlobStore(store), new Leases(store)]
    const id = randomUUID()
    const run = await leases.create(id, { job: { kind: 'push', id }, request: {} })
    const base = await busyboxLayer()
    const plain = await layerOf({ plain: { content: plainFile } })
    const tar = await layerOf({ 'deep/packed': { content: packedFile } })
    const packed = gzipSync(tar)
    await blobs.add(digestOf(base), base, id)
    for (const bytes of [plain, packed]) {
      const third = Math.ceil(bytes.length / 3) + 1
      const pieces = []
      for (let at = 0; at < bytes.length; at += third) {
        const [data, piece] = [freshDataKey(id), bytes.subarray(at, at + third)]
        await store.put(data, piece)
        pieces.push({ data, size: piece.length })
      }
      expect(pieces).toHaveLength(3)
      expect(await blobs.commit(digestOf(bytes), { pieces, size: bytes.length }, id)).toBe('created')
    }
    const config = json({
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config: { Env: ['PATH=/bin'] },
      rootfs: { type: 'layers', diff_ids: [base, plain, tar].map((bytes) => digestOf(bytes)) },
    })
    await blobs.add(digestOf(config), config, id)
    const layer = (bytes: Buffer, suffix = '') => ({
      mediaType: `application/vnd.oci.image.layer.v1.tar${suffix}`,
      digest: digestOf(bytes),
      size: bytes.length,
    })
    const manifest = json({
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config: { mediaType: MEDIA.config, digest: digestOf(config), size: config.length },
      layers: [layer(base), layer(plain), layer(packed, '+gzip')],
    })
    await new Images(store).put(manifest, [parseTagged(name)], run)
    expect(await leases.endBy(run, 'done')).toBe(true)
    return [plain, packed].map((bytes) => digestOf(bytes))
  }
  const cli = async (...args: string[]): Promise<Buffer> => {
    const { code, stdout, stderr } = await strata.cli(args)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    return stdout
  }
  const expectImage = async (): Promise<void> => {
    expect((await cli('cat', name, '/plain')).equals(plainFile)).toBe(true)
    expect((await cli('cat', name, '/deep/packed')).toString()).toBe(packedFile)
    expect((await cli('run', '--rm', name, '/bin/busybox', 'tail', '-c', '9', '/deep/packed')).toString()).toBe(
      packedFile.slice(-9),
    )
    expect((await cli('run', '--rm', name, '/bin/busybox', 'cat', '/plain')).equals(plainFile)).toBe(true)
  }

  it('is shown, browsed, launched and saved, and goes whole', async () => {
    const digests = await push()
    const store = await strata.store()
    const { layers } = (await strata.request('GET', `/v1/images/${encodeURIComponent(name)}`)).json<ImageView>()
    expect(layers.slice(1).map(({ digest }) => digest)).toEqual(digests)
    expect((await cli('ls', name, '/deep')).toString()).toContain('packed')
    await expectImage()
    const archive = join(folder, 'saved.tar')
    await cli('save', '-o', archive, name)
    const saved = await readFile(archive)
    const [plain, packed] = digests
    for (const digest of [plain!, packed!]) {
      const bytes = await new BlobStore(store).read(digest as never, 8 * MIB)
      expect(saved.includes(bytes)).toBe(true)
    }
    expect((await settledStore(strata)).filter((key) => key.startsWith('data/'))).toHaveLength(3 + 3 + 3)

    await cli('rmi', name)
    expect((await strata.request('POST', '/v1/gc')).status).toBe(200)
    expect(await settledStore(strata)).toEqual([])

    await strata.load(createReadStream(archive))
    await expectImage()
    expect(await store.stat(keys.blob(plain as never))).toBeDefined()
    await cli('rmi', name)
  })
})
