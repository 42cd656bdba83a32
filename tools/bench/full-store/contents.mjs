import { createHash } from 'node:crypto'
import { digestOf, hexOf, MEDIA, parseReference, parseTagged } from '@strata/oci'
import { keys } from '@strata/store'

/** Tags of one manifest of the repository with many tags; its manifests have as many referrers. */
const TAGS_OF_ONE = 10
const LAYERS = 7
/** The bytes of every layer: files of a folder store are links to one. */
const LAYER = Buffer.alloc(1024, 'x')
const MARK = Buffer.from('{}')
const MANY = parseReference('bench/many').repository
const ARTIFACT = 'application/vnd.bench.signature'

/**
 * What a store with so many repositories, and so many tags in one more of them, has. Images differ
 * in all of their parts: a manifest, a config and seven layers. Each repository has one with one
 * tag, and the last one an image for each ten tags. One image there has as many referrers.
 *
 * With 100,000 of both there are 1,000,000 blobs. Everything follows from the numbers, so a part of
 * it can be made anywhere.
 */
export class Contents {
  constructor({ repositories, tags }) {
    this.repositories = repositories
    this.tags = tags
    this.images = repositories + tags / TAGS_OF_ONE
    this.referrers = tags / TAGS_OF_ONE
    this.blobs = this.images * (2 + LAYERS) + this.referrers
  }

  /** The image of the repository with this number. */
  ofRepository(number) {
    return imageOf(number, parseReference(`bench/repository-${padded(number)}`).repository)
  }

  /** The image of the tag with this number, in the repository with many. */
  ofTag(number) {
    return imageOf(this.repositories + Math.floor(number / TAGS_OF_ONE), MANY)
  }

  nameOfTag(number) {
    return `t${padded(number)}`
  }

  /** The image that has referrers. */
  get subject() {
    return this.ofTag(0)
  }

  /**
   * The keys and bytes of all objects; with `parts` only those of the part with the number `part`.
   * Bytes that many objects have are one buffer of `SHARED`.
   */
  *objects(part = 0, parts = 1) {
    const { subject } = this
    for (let number = part; number < this.repositories; number += parts) {
      const image = this.ofRepository(number)
      yield [keys.repository(image.repository), NOTHING]
      yield* this.#objectsOf(image, ['latest'])
    }
    if (part === 0) yield [keys.repository(MANY), NOTHING]
    for (let number = part; number < this.referrers; number += parts) {
      const tags = Array.from({ length: TAGS_OF_ONE }, (_, i) => this.nameOfTag(number * TAGS_OF_ONE + i))
      yield* this.#objectsOf(this.ofTag(number * TAGS_OF_ONE), tags)
      yield* referrerObjects(number, subject)
    }
  }

  *#objectsOf({ repository, manifest, config, layers }, tags) {
    const lease = leaseOf(manifest.digest)
    yield* blobObjects(lease, 'manifest', manifest)
    for (const [at, blob] of [config, ...layers].entries()) {
      yield* blobObjects(lease, `${at}`, blob)
      yield [keys.repositoryBlob(repository, blob.digest), HELD_BY_NOBODY]
    }
    const record = {
      id: config.digest,
      digest: manifest.digest,
      mediaType: MEDIA.manifest,
      manifestSize: manifest.bytes.length,
      size: layers.length * LAYER.length,
      layers: layers.length,
    }
    const names = [{ repository, digest: manifest.digest }, ...tags.map((tag) => ({ repository, tag: tagOf(tag) }))]
    for (const name of names) {
      const mark = markOf(manifest.digest, name.tag)
      yield [keys.nameMark(manifest.digest, name, mark), MARK]
      yield [keys.idMark(config.digest, manifest.digest, mark), MARK]
      const key = name.tag ? keys.tag(repository, name.tag) : keys.imageDigest(repository, manifest.digest)
      yield [key, recordWith({ ...record, mark })]
    }
  }
}

function imageOf(number, repository) {
  const diffIds = Array.from({ length: LAYERS }, (_, at) => digestOf(Buffer.from(`layer ${at} of ${number}`)))
  const layers = diffIds.map((digest) => ({ digest, bytes: LAYER, mediaType: MEDIA.layer }))
  const config = documentOf(
    { architecture: 'amd64', os: 'linux', author: `${number}`, rootfs: { type: 'layers', diff_ids: diffIds } },
    MEDIA.config,
  )
  const manifest = documentOf(
    {
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      config: descriptorOf(config),
      layers: layers.map(descriptorOf),
    },
    MEDIA.manifest,
  )
  return { repository, manifest, config, layers }
}

/** A manifest with the image as its subject, of blobs that the image has. */
function* referrerObjects(number, { repository, manifest: subject, config, layers }) {
  const manifest = documentOf(
    {
      schemaVersion: 2,
      mediaType: MEDIA.manifest,
      artifactType: ARTIFACT,
      config: descriptorOf(config),
      layers: [descriptorOf(layers[0])],
      subject: descriptorOf(subject),
      annotations: { number: `${number}` },
    },
    MEDIA.manifest,
  )
  yield* blobObjects(leaseOf(manifest.digest), 'manifest', manifest)
  const { digest, bytes, mediaType } = manifest
  const mark = markOf(digest)
  yield [keys.artifactMark(digest, { repository, digest }, mark), MARK]
  yield [keys.subjectMark(subject.digest, repository, digest, mark), MARK]
  const attached = { subject: subject.digest, artifactType: ARTIFACT, annotations: { number: `${number}` } }
  yield [
    keys.imageDigest(repository, digest),
    recordWith({ digest, mediaType, manifestSize: bytes.length, kept: 'digest', attached, mark }),
  ]
}

function* blobObjects(lease, name, { digest, bytes }) {
  const data = keys.data(lease, name)
  yield [data, bytes]
  yield [keys.blob(digest), recordWith({ data, size: bytes.length, holders: [] })]
}

export function documentOf(content, mediaType) {
  const bytes = Buffer.from(JSON.stringify(content))
  return { digest: digestOf(bytes), bytes, mediaType }
}

export function descriptorOf({ digest, bytes, mediaType }) {
  return { mediaType, digest, size: bytes.length }
}

/** As the store's records are written (`Records`). A first write needs no random `rev`. */
function recordWith(value) {
  return Buffer.from(JSON.stringify({ rev: 'bench-bench-benc', value }))
}
const NOTHING = recordWith({})
const HELD_BY_NOBODY = recordWith({ holders: [] })
/** Each is the content of very many objects. */
export const SHARED = new Set([LAYER, MARK, NOTHING, HELD_BY_NOBODY])

function markOf(digest, tag = '') {
  return createHash('sha256').update(`${digest} ${tag}`).digest('base64url').slice(0, 16)
}

function leaseOf(digest) {
  return hexOf(digest).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/, '$1-$2-$3-$4-$5')
}

function tagOf(text) {
  return parseTagged(`x:${text}`).tag
}

function padded(number) {
  return `${number}`.padStart(6, '0')
}
