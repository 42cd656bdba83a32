import { buffer } from 'node:stream/consumers'
import {
  decodeListing,
  type ArchiveImage,
  type ArchiveLayer,
  type ArchiveListing,
  type BlobSource,
  type KeptBlob,
  type MadeBlob,
} from '@strata/archive'
import { atMost, StrataError } from '@strata/base'
import { MAX_JSON_BYTES, type DiffId, type Digest } from '@strata/oci'
import type { LoadReport } from '@strata/queue'
import { freshDataKey, makerOf, type BlobStore, type Lease, type ObjectStore } from '@strata/store'

/** Blobs that are kept, or looked at, at the same time. Their bytes are streamed. */
const AT_ONCE = 8
/** 100,000 entries with names of 4,096 bytes, doubled by JSON's escapes, at the worst. */
const MAX_LISTING_BYTES = 1024 * 1024 * 1024

/**
 * What an upload has brought, and how it becomes blobs that are held for the upload. Every method
 * may run again, also beside itself, and ends the same.
 */
export class ReceivedUpload {
  constructor(
    private readonly store: ObjectStore,
    private readonly blobs: BlobStore,
  ) {}

  /** The list of what the upload brought. */
  async listing({ listing, job }: Lease): Promise<ArchiveListing> {
    if (listing === undefined)
      throw new StrataError('upload_interrupted', `the upload ${job.id} is over: what it brought is gone`)
    const found = await this.store.read(listing, MAX_LISTING_BYTES)
    if (!found) throw new StrataError('upload_interrupted', 'the list of what the upload brought is gone')
    return decodeListing(found.bytes)
  }

  async bytes({ digest, size, at }: BlobSource): Promise<Buffer> {
    if (size > MAX_JSON_BYTES)
      throw new StrataError('limit_exceeded', `${digest} has ${size} bytes; the limit for JSON is ${MAX_JSON_BYTES}`)
    const found = await this.store.get(at.object, { start: at.offset, end: at.offset + size })
    if (!found) throw new StrataError('upload_interrupted', `what the upload brought is gone: ${digest}`)
    return buffer(found.body)
  }

  /**
   * A layer came new if its bytes are this upload's: so a second run says the same. `made`: blobs
   * that this run has made, whose records need not be read for that.
   */
  async tally(
    layers: readonly ArchiveLayer[],
    upload: string,
    made: ReadonlySet<Digest>,
  ): Promise<LoadReport['layers']> {
    const tally = { new: { count: 0, bytes: 0 }, known: { count: 0, bytes: 0 } }
    const unique = new Map(layers.map(({ blob }) => [blob.digest, blob]))
    await atMost(AT_ONCE, unique.values(), async ({ digest, size }) => {
      const kind = tally[(await this.#isOf(upload, digest, made)) ? 'new' : 'known']
      kind.count++
      kind.bytes += size
    })
    return tally
  }

  async #isOf(upload: string, digest: Digest, made: ReadonlySet<Digest>): Promise<boolean> {
    if (made.has(digest)) return true
    const record = await this.blobs.stat(digest)
    return record !== undefined && makerOf(record) === upload
  }

  /**
   * Config, manifest and layers become blobs, held for this upload. Those that were not there are
   * added to `made`. A plain layer is proven with that: its bytes are its tar.
   */
  async keepImage(image: ArchiveImage, upload: string, made: Set<Digest>, signal: AbortSignal): Promise<void> {
    await this.keepAll([image.config, ...(image.manifest ? [image.manifest] : [])], upload, signal)
    await atMost(AT_ONCE, uniqueLayers([image]), async ({ blob, compression, diffId }) => {
      signal.throwIfAborted()
      const isPlain = compression === 'none'
      if (await this.keep(blob, upload, isPlain ? diffId : undefined)) made.add(blob.digest)
      else if (isPlain && !made.has(blob.digest)) await this.blobs.prove(blob.digest, diffId)
    })
  }

  /** Documents and other blobs become blobs that are held for this upload. */
  async keepAll(
    sources: readonly (BlobSource | MadeBlob | KeptBlob)[],
    upload: string,
    signal: AbortSignal,
  ): Promise<void> {
    await atMost(AT_ONCE, sources, async (source) => {
      signal.throwIfAborted()
      await this.keep(source, upload)
    })
  }

  /**
   * A large entry is an object of its own and becomes the blob where it lies; a small one is cut
   * out of the gathered ones. `diffId`: what the blob's record is to say of a layer that is proven.
   * True if the blob was not there, and is made of these bytes.
   */
  async keep(source: BlobSource | MadeBlob | KeptBlob, upload: string, diffId?: DiffId): Promise<boolean> {
    if ('kept' in source) {
      if (await this.blobs.hold(source.digest, upload)) return false
      throw new StrataError(
        'layer_missing',
        `the layer ${source.digest} is not in the archive, and was removed here meanwhile`,
      )
    }
    if ('bytes' in source) return (await this.blobs.add(source.digest, source.bytes, upload)) === 'created'
    const { digest, size, at } = source
    if (await this.blobs.hold(digest, upload)) return false
    const whole = at.offset === 0 && (await this.store.stat(at.object))?.size === size
    const data = whole ? at.object : freshDataKey(upload)
    if (!whole) {
      const found = await this.store.get(at.object, { start: at.offset, end: at.offset + size })
      if (!found) throw new StrataError('upload_interrupted', `the upload ${upload} is over: what it brought is gone`)
      await this.store.put(data, found.body)
    }
    const proven = { data, size, ...(diffId === undefined ? {} : { diffId }) }
    return (await this.blobs.commit(digest, proven, upload)) === 'created'
  }
}

/** Each layer once, however many images share it. */
export function uniqueLayers(images: readonly ArchiveImage[]): ArchiveLayer[] {
  return [
    ...new Map(
      images.flatMap(({ layers }) => layers).map((layer) => [`${layer.blob.digest} ${layer.diffId}`, layer]),
    ).values(),
  ]
}
