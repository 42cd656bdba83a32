import { buffer } from 'node:stream/consumers'
import { digestOf, familiarReference, MEDIA, parseTagged, type Digest } from '@strata/oci'
import { extract } from 'tar-stream'
import { describe, expect, it } from 'vitest'
import { archiveBytes, planArchive, type ArchivePlan, type SavedImage } from './archive-plan.js'
import { resolveArchive } from '../images/resolve.js'
import { TarReader } from './tar-reader.js'
import { listArchive } from '../testing/list-archive.js'

const blobs = new Map<Digest, Buffer>()
const blob = (content: Buffer | string) => {
  const bytes = Buffer.from(content)
  blobs.set(digestOf(bytes), bytes)
  return { digest: digestOf(bytes), size: bytes.length }
}
const layers = [Buffer.alloc(1024), Buffer.alloc(10_240), Buffer.alloc(1536)].map((bytes) => blob(bytes))

function image(names: string[], of: typeof layers): SavedImage {
  const config = blob(
    JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      names,
      rootfs: { type: 'layers', diff_ids: of.map(({ digest }) => digest) },
    }),
  )
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.manifest, config, layers: of }))
  return {
    manifest: { digest: digestOf(bytes), mediaType: MEDIA.manifest, bytes },
    config,
    layers: of,
    names: names.map(parseTagged),
  }
}
const read = (plan: ArchivePlan, start = 0, end = plan.size) =>
  buffer(
    archiveBytes(plan, { start, end }, async function* (digest, range) {
      yield await Promise.resolve(blobs.get(digest)!.subarray(range.start, range.end))
    }),
  )

const one = image(['fx/one:1', 'localhost:5000/one'], layers.slice(0, 2))
const two = image([], layers)

describe('the archive of images', () => {
  it.each(['docker', 'oci'] as const)('%s: what is written is read, by our reader and another', async (format) => {
    const plan = planArchive([one, two], format)
    const bytes = await read(plan)
    expect(bytes.length).toBe(plan.size)
    const { listing, readSmall } = listArchive(bytes)
    const images = await resolveArchive(listing, readSmall)
    expect(
      images.map(({ names, manifest, layers }) => [
        names.map(familiarReference),
        manifest?.digest,
        layers.map(({ blob }) => blob.digest),
      ]),
    ).toEqual([
      [['fx/one:1', 'localhost:5000/one:latest'], one.manifest.digest, one.layers.map(({ digest }) => digest)],
      [[], two.manifest.digest, two.layers.map(({ digest }) => digest)],
    ])
    const names: string[] = []
    const reader = extract()
    reader.end(bytes)
    for await (const entry of reader) {
      names.push(entry.header.name)
      entry.resume()
    }
    expect(names.slice(0, format === 'docker' ? 3 : 2)).toEqual([
      'oci-layout',
      'index.json',
      ...(format === 'docker' ? ['manifest.json'] : []),
    ])
    expect(new Set(names).size).toBe(names.length)
  })

  it.each(['docker', 'oci'] as const)('%s: a name that is given twice is written once', async (format) => {
    const twice = { ...one, names: ['fx/one:1', 'docker.io/fx/one:1', 'b', 'fx/one:1'].map(parseTagged) }
    const once = { ...one, names: ['fx/one:1', 'b'].map(parseTagged) }
    expect((await read(planArchive([twice], format))).equals(await read(planArchive([once], format)))).toBe(true)
  })

  it('any part of it is that part of the whole, and its tag says which bytes', async () => {
    const plan = planArchive([one, two], 'docker')
    const whole = await read(plan)
    expect((await read(planArchive([one, two], 'docker'))).equals(whole)).toBe(true)
    expect(planArchive([one, two], 'docker').etag).toBe(plan.etag)
    for (let start = 0; start < plan.size; start += 777) {
      const end = Math.min(plan.size, start + 1000)
      expect((await read(plan, start, end)).equals(whole.subarray(start, end))).toBe(true)
    }
    expect(
      new Set(
        [plan, planArchive([two, one], 'docker'), planArchive([one, two], 'oci'), planArchive([one], 'docker')].map(
          ({ etag }) => etag,
        ),
      ).size,
    ).toBe(4)
  })

  it('leaves out what the receiver has', async () => {
    const { listing } = listArchive(
      await read(planArchive([two], 'oci', new Set([layers[0]!.digest, layers[1]!.digest]))),
    )
    expect(
      listing.entries
        .filter(({ name }) => layers.some(({ digest }) => name.endsWith(digest.slice(7))))
        .map(({ size }) => size),
    ).toEqual([1536])
  })

  it('a file of more than 8 GiB has its size', () => {
    const size = 9 * 1024 ** 3
    const plan = planArchive([{ ...one, layers: [{ digest: digestOf('huge'), size }] }], 'oci')
    expect(plan.size).toBeGreaterThan(size)
    expect(plan.size % 512).toBe(0)
    const header = plan.pieces.findIndex((piece) => 'blob' in piece && piece.size === size) - 1
    const bytes = plan.pieces[header]!
    if (!('bytes' in bytes)) throw new Error('a header comes first')
    const sizes: number[] = []
    new TarReader({
      entry: (entry) => sizes.push(entry.size) < 0,
      data: () => undefined,
      entryEnd: () => undefined,
    }).write(bytes.bytes)
    expect(sizes).toEqual([size])
  })
})
