import { digestOf, MEDIA, parseReference, parseTagged, type Digest, type Repository, type Tag } from '@strata/oci'
import { BlobStore, Leases, type LeaseRun, type ObjectStore } from '@strata/store'
import { Repositories } from '../repositories/repositories.js'
import { underLease } from '../under-lease.js'

export const repositoryOf = (text: string): Repository => parseReference(text).repository
export const tagOf = (text: string): Tag => parseTagged(`x:${text}`).tag!

export interface Part {
  readonly digest: Digest
  readonly size: number
  readonly mediaType: string
  readonly bytes: Buffer
}

const part = (content: string | object, mediaType: string): Part => {
  const bytes = Buffer.from(typeof content === 'string' ? content : JSON.stringify(content))
  return { digest: digestOf(bytes), size: bytes.length, mediaType, bytes }
}
const descriptor = ({ digest, size, mediaType }: Part) => ({ digest, size, mediaType })

/** The parts of an image that can be launched, of layers that are these texts. */
export function imageOf(layers: readonly string[], more: object = {}, architecture = 'amd64') {
  const config = part(
    { os: 'linux', architecture, rootfs: { type: 'layers', diff_ids: layers.map((layer) => digestOf(layer)) } },
    MEDIA.config,
  )
  const blobs = [config, ...layers.map((layer) => part(layer, MEDIA.layer))]
  const manifest = part(
    {
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config: descriptor(config),
      layers: blobs.slice(1).map(descriptor),
      ...more,
    },
    MEDIA.manifest,
  )
  return { manifest, blobs, id: config.digest, architecture }
}

/** A chart, a signature: no image. */
export function artifactOf(content: string, artifactType: string, more: object = {}) {
  const config = part('{}', 'application/vnd.oci.empty.v1+json')
  const blob = part(content, 'application/octet-stream')
  const body = { schemaVersion: 2, mediaType: MEDIA.manifest, artifactType, config: descriptor(config) }
  return { manifest: part({ ...body, layers: [descriptor(blob)], ...more }, MEDIA.manifest), blobs: [config, blob] }
}

export function indexOf(
  images: readonly { readonly manifest: Part; readonly architecture: string }[],
  more: object = {},
) {
  const manifests = images.map(({ manifest, architecture }) => ({
    ...descriptor(manifest),
    platform: { os: 'linux', architecture },
  }))
  return { manifest: part({ schemaVersion: 2, mediaType: MEDIA.index, manifests, ...more }, MEDIA.index), blobs: [] }
}

/**
 * As a registry's client pushes: blobs, then the manifest, then the tag. The blobs come under the
 * lease of the manifest, not by an upload, which would hold them for a day.
 */
export class PushingClient {
  readonly #blobs: BlobStore
  readonly #leases: Leases

  constructor(
    store: ObjectStore,
    readonly repositories = new Repositories(store),
  ) {
    this.#blobs = new BlobStore(store)
    this.#leases = new Leases(store)
  }

  async push(
    repository: Repository,
    { manifest, blobs }: { readonly manifest: Part; readonly blobs: readonly Part[] },
    tag?: string,
  ): Promise<Digest> {
    return this.under(async (run) => {
      for (const { digest, bytes } of blobs) await this.#blobs.add(digest, bytes, run.lease)
      await this.repositories.blobs.add(
        repository,
        blobs.map(({ digest }) => digest),
        run.lease,
      )
      const { digest, bytes, mediaType } = manifest
      const { manifests, tags } = this.repositories
      if (tag === undefined) await manifests.put(repository, digest, bytes, mediaType, run)
      else await tags.put(repository, tagOf(tag), manifest, run)
      return digest
    })
  }

  /** As a gateway puts a manifest. */
  async under<T>(work: (run: LeaseRun) => Promise<T>): Promise<T> {
    return underLease(this.#leases, async (run) => {
      try {
        return await work(run)
      } finally {
        await this.#blobs.deleteUnused(run.lease)
      }
    })
  }
}
