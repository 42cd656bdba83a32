import { StrataError } from '@strata/base'
import { bestFor, digestOf, formatPlatform, MEDIA, type Digest, type Platform } from '@strata/oci'
import type { ArchiveImage, ArchiveWhole } from './image-archive.js'
import type { BlobSource, MadeBlob } from '../listing.js'
import type { ArchiveFile, ArchiveFiles } from './resolve-files.js'
import { mergeNames, type ResolvedImage } from './resolve-names.js'
import {
  distinctManifests,
  groupsOfIndex,
  isComplete,
  layoutImage,
  platformOfManifest,
  present,
  type Described,
  type LayoutGroup,
  type LayoutManifest,
} from './resolve-oci.js'

/** More would make every record of a name large. A real index has some twenty. */
const MAX_PARTS = 1_000

/**
 * The images of an OCI layout with all their platforms and what is attached to them. Of an index
 * that names more than the archive has (a sparse one), what is there in full is taken, and the
 * image says what is missing.
 */
export async function resolveWholeLayout(
  files: ArchiveFiles,
  index: ArchiveFile,
  host: Platform,
): Promise<ResolvedImage[]> {
  const groups = await groupsOfIndex(files, index)
  const found = new Map<Digest, ResolvedImage>()
  for (const group of groups) {
    const resolved = await wholeImage(files, group, host)
    if (!resolved) continue
    const key = resolved.image.whole?.root.digest ?? resolved.image.manifest!.digest
    const known = found.get(key)
    found.set(key, known ? { ...known, ...merged(known, resolved) } : resolved)
  }
  const referrers = await bySubject(files, groups)
  return Promise.all(Array.from(found.values(), (one) => withReferrers(files, one, referrers)))
}

function merged(a: ResolvedImage, b: ResolvedImage): ResolvedImage {
  const { names, bareTag } = mergeNames(
    { names: a.image.names, bareTag: a.bareTag },
    { names: b.image.names, bareTag: b.bareTag },
  )
  return { image: { ...a.image, names }, bareTag }
}

async function wholeImage(files: ArchiveFiles, group: LayoutGroup, host: Platform): Promise<ResolvedImage | undefined> {
  const { complete, missing } = await sorted(files, group)
  const { preferred, others } = await byPreference(files, complete, host)
  if (!preferred) return undefined
  const resolved = await layoutImage(files, preferred)
  const root = rootOf(group, preferred)
  if (root === undefined) return resolved
  const images: ArchiveImage[] = []
  for (const other of others) images.push({ ...(await layoutImage(files, other)).image, names: [] })
  const whole = await withAttached(
    files,
    { root, others: images, documents: group.indexes.map(({ file }) => file.blob), blobs: [] },
    group.attached,
  )
  return { ...resolved, image: { ...resolved.image, ...(missing.length > 0 ? { missing } : {}), whole } }
}

/** Undefined: the image's manifest itself. */
function rootOf({ roots }: LayoutGroup, { file }: LayoutManifest): BlobSource | MadeBlob | undefined {
  const distinct = [...new Map(roots.map((root) => [root.file.blob.digest, root])).values()]
  const [only] = distinct
  if (only && distinct.length === 1) return only.file.blob.digest === file.blob.digest ? undefined : only.file.blob
  // The platforms stand in index.json, beside other images: they get an index of their own, the
  // same for the same platforms.
  const manifests = distinct.map(({ descriptor: { mediaType, digest, size, platform } }) => ({
    mediaType: mediaType ?? MEDIA.manifest,
    digest,
    size,
    ...(platform ? { platform } : {}),
  }))
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.index, manifests }))
  return { digest: digestOf(bytes), size: bytes.length, bytes }
}

/**
 * Manifests that are there with all they need, and the platforms of what is not. If none is, all:
 * what they lack is said of them.
 */
async function sorted(
  files: ArchiveFiles,
  group: LayoutGroup,
): Promise<{ complete: LayoutManifest[]; missing: string[] }> {
  const missing = group.absent.map(({ platform, digest }) => (platform ? formatPlatform(platform) : digest))
  const complete: LayoutManifest[] = []
  const distinct = distinctManifests(group)
  for (const found of distinct) {
    if (await isComplete(files, found)) complete.push(found)
    else missing.push(found.platform ? formatPlatform(found.platform) : found.file.blob.digest)
  }
  return { complete: complete.length > 0 ? complete : distinct, missing }
}

async function byPreference(
  files: ArchiveFiles,
  complete: readonly LayoutManifest[],
  host: Platform,
): Promise<{ preferred: LayoutManifest | undefined; others: LayoutManifest[] }> {
  const there = await Promise.all(
    complete.map(async (found) => ({ found, platform: await platformOfManifest(files, found) })),
  )
  const preferred = bestFor(there, host)?.found ?? complete[0]
  return { preferred, others: complete.filter((found) => found !== preferred) }
}

/**
 * The layout's manifests that say to what they belong (image-spec, manifest.md, "subject"), by
 * that.
 */
async function bySubject(
  files: ArchiveFiles,
  groups: readonly LayoutGroup[],
): Promise<ReadonlyMap<Digest, readonly Described[]>> {
  const referrers = new Map<Digest, Described[]>()
  for (const attached of groups.flatMap((group) => (group.manifests.length === 0 ? group.attached : []))) {
    const { subject } = await files.manifest(attached.file)
    if (!subject) continue
    const known = referrers.get(subject.digest)
    if (known) known.push(attached)
    else referrers.set(subject.digest, [attached])
  }
  return referrers
}

/** With what is attached to the image or to something of it, signatures of signatures too. */
async function withReferrers(
  files: ArchiveFiles,
  resolved: ResolvedImage,
  referrers: ReadonlyMap<Digest, readonly Described[]>,
): Promise<ResolvedImage> {
  const { image } = resolved
  const whole = image.whole ?? { root: image.manifest!, others: [], documents: [], blobs: [] }
  const subjects = new Set<Digest>(
    [image.manifest!, whole.root, ...whole.documents, ...whole.others.map(({ manifest }) => manifest!)].map(
      ({ digest }) => digest,
    ),
  )
  const attached = new Map<Digest, Described>()
  // A set's loop comes to what is added on the way.
  for (const subject of subjects) {
    for (const referrer of referrers.get(subject) ?? []) {
      subjects.add(referrer.file.blob.digest)
      attached.set(referrer.file.blob.digest, referrer)
    }
  }
  return attached.size === 0
    ? resolved
    : { ...resolved, image: { ...image, whole: await withAttached(files, whole, [...attached.values()]) } }
}

async function withAttached(
  files: ArchiveFiles,
  whole: ArchiveWhole,
  attached: readonly Described[],
): Promise<ArchiveWhole> {
  const documents = new Map(whole.documents.map((source) => [source.digest, source]))
  const blobs = new Map(whole.blobs.map((source) => [source.digest, source]))
  for (const { file } of attached) {
    const { config, layers } = await files.manifest(file)
    const parts = [config, ...layers].map((descriptor) => present(files, descriptor)?.blob)
    // One that lacks something proves nothing.
    if (parts.includes(undefined)) continue
    documents.set(file.blob.digest, file.blob)
    for (const part of parts) if (part) blobs.set(part.digest, part)
  }
  if (documents.size + whole.others.length > MAX_PARTS)
    throw new StrataError('limit_exceeded', `an image of the archive has more than ${MAX_PARTS} manifests`)
  return { ...whole, documents: [...documents.values()], blobs: [...blobs.values()] }
}
