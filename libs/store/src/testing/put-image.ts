import { randomUUID } from 'node:crypto'
import { digestOf, MEDIA, parseReference, type Digest } from '@strata/oci'
import { z } from 'zod'
import { BlobStore } from '../blobs/blobs.js'
import { freshDataKey, keys } from '../keys.js'
import type { ObjectStore } from '../objects/object-store.js'
import { Records } from '../records.js'
import { Leases } from '../leases/leases.js'

export interface PutImage {
  readonly manifest: Digest
  readonly config: Digest
  readonly layers: readonly Digest[]
  /** Key of its name. */
  readonly name: string
}

/**
 * An image of the layers' bytes, as a load makes it: blobs, then its name. For tests of the store:
 * the config and the name's record have only what the store reads. `elsewhere`: the bytes of one
 * more layer, which has an address and was not put.
 */
export async function putImage(
  store: ObjectStore,
  name: string,
  layers: readonly Uint8Array[],
  elsewhere?: Uint8Array,
): Promise<PutImage> {
  const blobs = new BlobStore(store)
  const leases = new Leases(store)
  const upload = randomUUID()
  await leases.create(upload, { job: { kind: 'load', id: upload }, request: {} })
  const add = async (bytes: Uint8Array) => {
    const digest = digestOf(bytes)
    if (await blobs.hold(digest, upload)) return digest
    const data = freshDataKey(upload)
    await store.put(data, bytes)
    await blobs.commit(digest, { data, size: bytes.length }, upload)
    return digest
  }
  const put: Digest[] = []
  for (const layer of layers) put.push(await add(layer))
  const configBytes = Buffer.from(JSON.stringify({ name }))
  const config = await add(configBytes)
  const absent = elsewhere ? [{ digest: digestOf(elsewhere), size: elsewhere.length, urls: ['https://x.test'] }] : []
  const manifestBytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config: { mediaType: MEDIA.config, digest: config, size: configBytes.length },
      layers: [
        ...layers.map((bytes, at) => ({
          mediaType: 'application/vnd.oci.image.layer.v1.tar',
          digest: put[at],
          size: bytes.length,
        })),
        ...absent,
      ],
    }),
  )
  const manifest = await add(manifestBytes)
  const { repository, tag } = parseReference(name)
  const key = tag ? keys.tag(repository, tag) : keys.imageDigest(repository, manifest)
  await new Records(store, z.object({ digest: z.string() }), 'the record of image name').update(key, () => ({
    digest: manifest,
  }))
  await leases.end(upload)
  return { manifest, config, layers: put, name: key }
}
