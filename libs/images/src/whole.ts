import { atMostOf, StrataError } from '@strata/base'
import {
  bestFor,
  documentSchema,
  formatPlatform,
  HOST_PLATFORM,
  MAX_JSON_BYTES,
  MEDIA,
  parseJson,
  parsePlatform,
  type Descriptor,
  type Digest,
  type Platform,
} from '@strata/oci'
import type { BlobStore } from '@strata/store'
import type { z } from 'zod'
import {
  isPlain,
  MAX_PARTS,
  MAX_SUBJECTS,
  type Image,
  type PlainManifest,
  type RecordedManifest,
  type Whole,
} from './image.js'
import { readManifest, type ImageBlobs } from './manifest.js'
import { MayLack } from './may-lack.js'
import { isOfOneManifest } from './repositories/stops.js'

/**
 * The manifest of the image for a platform; without `platform`, the one that is used by default.
 * @throws StrataError `unsupported`
 */
export function manifestFor({ digest, whole }: Image, platform?: Platform): Digest {
  if (!whole) return digest
  if (!platform) return whole.manifest
  const images = whole.parts.flatMap((part) =>
    part.platform === undefined ? [] : [{ digest: part.digest, platform: parsePlatform(part.platform) }],
  )
  const found = bestFor(images, platform)
  if (!found)
    throw new StrataError(
      'unsupported',
      `the image ${digest} is here for ${images.map((image) => formatPlatform(image.platform)).join(', ')}, but not for ${formatPlatform(platform)}`,
    )
  return found.digest
}

/** As `united`, for a record that is to be written. @throws StrataError `limit_exceeded` */
export function unitedRecord(seen: Image, other: Image): Image {
  const record = united(seen, other)
  expectParts(seen.digest, record.whole)
  return record
}

/** @throws StrataError `limit_exceeded` */
export function expectParts(index: Digest, whole: Whole | undefined): void {
  if ((whole?.parts.length ?? 0) > MAX_PARTS)
    throw new StrataError('limit_exceeded', `the image ${index} would have more than ${MAX_PARTS} manifests`)
}

/**
 * Joins two records of one digest: the store has the parts that either of them lists. Gives `seen`
 * itself if the other adds nothing.
 */
export function united(seen: Image, other: Image): Image {
  const whole = unitedParts(seen.whole, other.whole)
  return whole === seen.whole ? seen : { ...other, size: Math.max(seen.size, other.size), whole: whole! }
}

/** All parts that either lists. Gives `seen` itself if the other adds nothing. */
export function unitedParts(seen: Whole | undefined, other: Whole | undefined): Whole | undefined {
  if (!other) return seen
  const parts = new Map((seen?.parts ?? []).map((part) => [part.digest, part]))
  let isNew = false
  for (const part of other.parts) {
    const known = parts.get(part.digest)
    if (known && (part.subject === undefined || known.subject !== undefined)) continue
    parts.set(part.digest, { ...known, ...part })
    isNew = true
  }
  return isNew ? { manifest: other.manifest, parts: [...parts.values()] } : seen
}

/**
 * The parts of an index without `part`, and without those that are reachable only through it (the
 * children of an index below). Attached manifests stay: no index names them.
 */
async function partsWithout(index: Digest, whole: Whole, part: Digest, blobs: BlobStore): Promise<Whole['parts']> {
  const others = whole.parts.filter(({ digest }) => digest !== part)
  const known = new Set(others.map(({ digest }) => digest))
  const reachable = async (from: Digest): Promise<Set<Digest>> => {
    const found = new Set<Digest>()
    const left = [from]
    for (let one = left.pop(); one !== undefined; one = left.pop())
      for (const child of await childrenOf(one, blobs)) {
        if (!known.has(child) || found.has(child)) continue
        found.add(child)
        left.push(child)
      }
    return found
  }
  try {
    const below = await reachable(part)
    if (below.size === 0) return others
    const named = await reachable(index)
    return others.filter(({ digest }) => !below.has(digest) || named.has(digest))
  } catch (error) {
    // A damaged document does not show what it names, so all other parts stay.
    if (isOfOneManifest(error)) return others
    throw error
  }
}

/** What the record of an index lists as its parts. */
export function partsOf({ whole }: RecordedManifest): Digest[] {
  return (whole?.parts ?? []).map(({ digest }) => digest)
}

/** The record of an index as if it had none of its parts. Gives `record` itself if it has none. */
export function withoutParts(record: RecordedManifest): RecordedManifest {
  if (!record.whole) return record
  const { digest, mediaType, manifestSize, deprecated } = record
  const root = { digest, mediaType, manifestSize, deprecated }
  if (!isPlain(record)) return { ...root, kept: 'tag' }
  return { ...root, kept: record.kept, ...(record.attached ? { attached: record.attached } : {}) }
}

/**
 * The record of an index without one of its parts, and without what only that led to. Without a
 * manifest for a platform, the record is not an image's any more.
 */
export async function withoutPart(record: RecordedManifest, part: Digest, blobs: BlobStore): Promise<RecordedManifest> {
  const { digest, mediaType, manifestSize, deprecated, whole } = record
  const root = { digest, mediaType, manifestSize, deprecated }
  const parts = whole ? await partsWithout(digest, whole, part, blobs) : []
  const wholeOf = (manifest: Digest | undefined): { whole?: Whole } =>
    manifest === undefined ? {} : { whole: { manifest, parts } }
  const images = parts.flatMap((one) =>
    one.platform === undefined ? [] : [{ digest: one.digest, platform: parsePlatform(one.platform) }],
  )
  const stays = parts.some((one) => one.digest === whole?.manifest)
  const meant = stays ? whole?.manifest : (bestFor(images, HOST_PLATFORM) ?? images[0])?.digest
  const plain: PlainManifest = { ...root, kept: 'tag', ...wholeOf(meant ?? parts[0]?.digest) }
  if (isPlain(record)) return { ...plain, kept: record.kept, ...(record.attached ? { attached: record.attached } : {}) }
  if (meant === undefined) return plain
  try {
    const { image } = await readManifest(meant, await blobs.read(meant, MAX_JSON_BYTES), blobs)
    const without: Image = { ...image, ...root, ...wholeOf(meant) }
    const { layers } = await readWhole(without, blobs)
    return { ...without, size: layers.reduce((sum, layer) => sum + layer.size, 0) }
  } catch (error) {
    // What is damaged can be deleted all the same.
    if (!isOfOneManifest(error)) throw error
    return meant === whole?.manifest ? { ...record, ...wholeOf(meant) } : plain
  }
}

/** Documents of an image that are read at the same time. Each has at most 4 MiB. */
const READS_AT_ONCE = 4

export interface Sized {
  readonly digest: Digest
  readonly size: number
}
export interface WholeContents {
  /** Manifests and indexes below and beside the root. */
  readonly documents: readonly Sized[]
  /**
   * The documents that neither the root nor an index below it names: they are attached to one that
   * is named.
   */
  readonly attached: readonly (Sized & { readonly mediaType: string })[]
  /** Configs, and the blobs that attached manifests name. */
  readonly blobs: readonly Sized[]
  readonly layers: readonly Sized[]
  /** Those of the blobs and layers that may be missing (`MayLack`). */
  readonly mayLack: ReadonlySet<Digest>
  /** The subjects of the documents that have one, for at most `MAX_SUBJECTS` documents. */
  readonly subjects: ReadonlyMap<Digest, Digest>
}

/**
 * Everything that a whole image consists of but its root. Reads each of its documents.
 * `takesSparse`: every layer may be missing.
 * @throws StrataError `not_found`, `corrupt`
 */
export async function readWhole(
  image: Pick<Image, 'digest' | 'whole'>,
  blobs: BlobStore,
  takesSparse = false,
): Promise<WholeContents> {
  const [documents, others, layers] = [new Map<Digest, Sized>(), new Map<Digest, Sized>(), new Map<Digest, Sized>()]
  const attached: WholeContents['attached'][number][] = []
  const subjects = new Map<Digest, Digest>()
  const mayLack = new MayLack(takesSparse)
  const named = new Set(await childrenOf(image.digest, blobs))
  const parts = image.whole?.parts ?? []
  const read = atMostOf(READS_AT_ONCE, parts, async (part) => {
    const bytes = await blobs.read(part.digest, MAX_JSON_BYTES)
    return { ...part, bytes: bytes.length, document: parseDocument(bytes, part.digest) }
  })
  for await (const { digest, platform, bytes, document } of read) {
    if (digest !== image.digest) documents.set(digest, { digest, size: bytes })
    if (document.manifests !== undefined) {
      for (const child of document.manifests) named.add(child.digest)
      continue
    }
    if (document.subject && digest !== image.digest && subjects.size < MAX_SUBJECTS)
      subjects.set(digest, document.subject.digest)
    mayLack.add(document)
    add(others, document.config)
    for (const layer of document.layers) add(platform === undefined ? others : layers, layer)
    if (platform === undefined && document.subject)
      attached.push({ digest, size: bytes, mediaType: document.mediaType ?? MEDIA.manifest })
  }
  return {
    documents: [...documents.values()],
    attached: attached.filter(({ digest }) => !named.has(digest)),
    blobs: [...others.values()],
    layers: [...layers.values()],
    mayLack: mayLack.digests,
    subjects,
  }
}

/** All that a whole image is made of. */
export function blobsOfWhole(
  { digest, manifestSize }: Image,
  { documents, blobs, layers, mayLack }: WholeContents,
): ImageBlobs {
  const parts = [{ digest, size: manifestSize }, ...documents, ...blobs, ...layers]
  return { blobs: new Map(parts.map((part) => [part.digest, part.size])), mayLack }
}

async function childrenOf(digest: Digest, blobs: BlobStore): Promise<Digest[]> {
  return (parseDocument(await blobs.read(digest, MAX_JSON_BYTES), digest).manifests ?? []).map((child) => child.digest)
}

function parseDocument(bytes: Uint8Array, digest: Digest): z.infer<typeof documentSchema> {
  return parseJson(documentSchema, bytes, `manifest ${digest}`, 'corrupt')
}

function add(to: Map<Digest, Sized>, { digest, size }: Descriptor): void {
  to.set(digest, { digest, size })
}
