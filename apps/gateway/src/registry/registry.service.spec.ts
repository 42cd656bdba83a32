import { buffer } from 'node:stream/consumers'
import { Repositories } from '@strata/images'
import { digestOf, MEDIA, parseReference, parseTagged, type Digest } from '@strata/oci'
import { Metrics, type ServiceMetrics } from '@strata/platform'
import { BlobStore, Leases, type LeaseRun, type ObjectStore, type PresignedReads } from '@strata/store'
import { counted, temporaryStore, withoutAbilities, type Calls } from '@strata/store/testing'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { lengthOf, type BodyPart } from '../send-parts.js'
import { RegistryService } from './registry.service.js'

/*
 * What a pull costs, and what it says after a delete.
 */

const { repository: app } = parseReference('team/app')
const { repository: other } = parseReference('team/other')
const tag = parseTagged('x:one').tag!
const LEASE = 'the-lease'
const LAYER = Buffer.from('the bytes of a layer')
const CONFIG = Buffer.from('{}')
const manifestOf = (note: string): Buffer =>
  Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      artifactType: 'text/plain',
      config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf(CONFIG), size: CONFIG.length },
      layers: [{ mediaType: 'text/plain', digest: digestOf(LAYER), size: LAYER.length }],
      annotations: { note },
    }),
  )
const MANIFEST = manifestOf('one')
const digest = digestOf(MANIFEST)

let metrics: ServiceMetrics
let store: ObjectStore
let dispose: () => Promise<void>
let run: LeaseRun
let repositories: Repositories
beforeAll(async () => {
  metrics = (await Metrics.open()).of('gateway')
})
beforeEach(async () => {
  ;({ store, dispose } = await temporaryStore())
  repositories = new Repositories(store)
  run = await new Leases(store).create(LEASE, { job: { kind: 'push', id: LEASE }, request: {} })
  for (const bytes of [LAYER, CONFIG]) await new BlobStore(store).add(digestOf(bytes), bytes, LEASE)
  for (const repository of [app, other])
    await repositories.blobs.add(repository, [digestOf(LAYER), digestOf(CONFIG)], LEASE)
  await put(MANIFEST)
})
afterEach(() => dispose())

const put = (bytes: Buffer, repository = app) =>
  repositories.tags.put(repository, tag, { digest: digestOf(bytes), bytes, mediaType: MEDIA.manifest }, run)
const serviceOn = (on: ObjectStore, publicReads?: PresignedReads): RegistryService =>
  new RegistryService(
    on,
    new Repositories(on),
    publicReads,
    {
      STRATA_MANIFEST_MEMORY: 32,
      STRATA_S3_PUBLIC_SECONDS: 60,
    },
    metrics,
  )
/** The bytes that a client gets, or the code of the error. */
async function pull(service: RegistryService, reference: { tag: typeof tag } | { digest: Digest }, repository = app) {
  const { held } = await service.manifest(repository, reference, () => true)
  held!.release()
  return held!.bytes.toString()
}
async function readAll(parts: AsyncIterable<BodyPart>): Promise<string> {
  const pieces: Buffer[] = []
  for await (const part of parts)
    pieces.push(
      part instanceof Uint8Array
        ? Buffer.from(part)
        : await buffer(part.file.createReadStream({ start: part.start, end: part.end - 1, autoClose: false })),
    )
  return Buffer.concat(pieces).toString()
}

describe.each([
  ['a folder', (on: ObjectStore) => on, 'openLocal'],
  ['a store with the verbs alone', withoutAbilities, 'get'],
] as const)('%s', (_, kind, reading) => {
  it('is asked as little as possible for a pull, and the same however often', async () => {
    const { store: counting, calls } = counted(kind(store))
    const service = serviceOn(counting)
    const cost = async (work: () => Promise<unknown>): Promise<Calls> => {
      calls()
      await work()
      return calls()
    }
    const head = (reference: { tag: typeof tag } | { digest: Digest }) => service.manifest(app, reference, () => false)
    for (let round = 0; round < 2; round++) {
      expect(await cost(() => head({ tag }))).toEqual({ read: 1 })
      expect(await cost(() => head({ digest }))).toEqual({ read: 1 })
      // Its blob's record and its bytes, once.
      expect(await cost(() => pull(service, { tag }))).toEqual({ read: round === 0 ? 3 : 1 })
      expect(await cost(() => pull(service, { digest }))).toEqual({ read: 1 })
      const blob = () => service.blob(app, digestOf(LAYER))
      expect(await cost(blob)).toEqual({ read: 2 })
      const whole = async () => readAll((await blob()).parts({ start: 0, end: LAYER.length }))
      expect(await cost(whole)).toEqual({ read: 2, [reading]: 1 })
      expect(await whole()).toBe(LAYER.toString())
    }
  })
})

it('a manifest in memory is served by the repositories that have it, for as long as they have it', async () => {
  const service = serviceOn(store)
  const not = { code: 'manifest_not_found' }
  expect(await pull(service, { tag })).toBe(MANIFEST.toString())
  await expect(pull(service, { digest }, other)).rejects.toMatchObject(not)
  await put(MANIFEST, other)
  expect(await pull(service, { digest }, other)).toBe(MANIFEST.toString())
  const next = manifestOf('two')
  await put(next)
  expect(await pull(service, { tag })).toBe(next.toString())
  await repositories.tags.delete(app, tag)
  await expect(pull(service, { tag })).rejects.toMatchObject(not)
  expect(await pull(service, { digest })).toBe(MANIFEST.toString())
  await repositories.manifests.delete(app, digest)
  await expect(pull(service, { digest })).rejects.toMatchObject(not)
  expect(await pull(service, { digest }, other)).toBe(MANIFEST.toString())
})

it('a blob in one object has an address at the public endpoint, and one in pieces has none', async () => {
  const pieces = await Promise.all(
    ['one ', 'two'].map(async (text, at) => {
      const [data, bytes] = [`data/${LEASE}/piece-${at}`, Buffer.from(text)]
      await store.put(data, bytes)
      return { data, size: bytes.length }
    }),
  )
  await new BlobStore(store).commit(digestOf('one two'), { pieces, size: 7 }, LEASE)
  await repositories.blobs.add(app, [digestOf('one two')], LEASE)
  const service = serviceOn(store, {
    presignedGet: (key, seconds) => Promise.resolve(`https://public/${key}?${seconds}`),
  })
  const { address } = await service.blob(app, digestOf(LAYER))
  expect(await address!()).toMatch(/^https:\/\/public\/data\/the-lease\/[\w-]+\?60$/)
  const inPieces = await service.blob(app, digestOf('one two'))
  expect([inPieces.address, await readAll(inPieces.parts({ start: 2, end: 6 }))]).toEqual([undefined, 'e tw'])
  expect((await serviceOn(store).blob(app, digestOf(LAYER))).address).toBeUndefined()
})

it('parts of a file are no longer than they were asked for', async () => {
  const { parts } = await serviceOn(store).blob(app, digestOf(LAYER))
  let length = 0
  for await (const part of parts({ start: 3, end: 7 })) length += lengthOf(part)
  expect(length).toBe(4)
})
