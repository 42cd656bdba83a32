import { StrataError } from '@strata/base'
import {
  bestFor,
  formatPlatform,
  formatReference,
  isIndexType,
  isLayerType,
  isManifestType,
  MEDIA,
  platformOf,
  type Descriptor,
  type Digest,
  type Manifest,
  type Platform,
} from '@strata/oci'
import { layersOf } from './image-archive.js'
import type { KeptBlob } from '../listing.js'
import type { ArchiveFile, ArchiveFiles } from './resolve-files.js'
import { mergeNames, namesOfAnnotations, type ArchiveNames, type ResolvedImage } from './resolve-names.js'

/** A manifest of the layout with the names that the layout's index gives it. */
export interface LayoutManifest {
  readonly file: ArchiveFile
  readonly manifest: Manifest
  /** What the index says of it, where it says something. */
  readonly platform: Platform | undefined
  readonly names: ArchiveNames
}

/** A file of the layout and how something names it. */
export interface Described {
  readonly descriptor: Descriptor
  readonly file: ArchiveFile
}

/** What a name of `index.json` stands for, and what is below it. */
export interface LayoutGroup {
  /** One; several where `index.json` itself lists an image's platforms. */
  readonly roots: Described[]
  /** Of images, one a platform. */
  readonly manifests: LayoutManifest[]
  /** Indexes below the roots. */
  readonly indexes: Described[]
  /** Manifests of attestations and other artifacts. */
  readonly attached: Described[]
  /** Named and not in the archive. */
  readonly absent: Descriptor[]
}

/**
 * Which of several platforms is wanted: the one asked for, or this machine's, where the only other
 * one will do as well.
 */
export type PlatformChoice = { readonly asked: Platform } | { readonly host: Platform }

/** A real layout has one index below `index.json`, or two. */
const MAX_INDEX_DEPTH = 4

/**
 * The images of an OCI layout (image-spec, image-layout.md): one for each name of `index.json`, of
 * several platforms the one that suits.
 */
export async function resolveLayout(
  files: ArchiveFiles,
  index: ArchiveFile,
  choice: PlatformChoice,
): Promise<ResolvedImage[]> {
  const chosen = new Map<Digest, LayoutManifest>()
  for (const group of await groupsOfIndex(files, index)) {
    const found = await forPlatform(files, group, choice)
    if (!found) continue
    const known = chosen.get(found.file.blob.digest)
    chosen.set(found.file.blob.digest, known ? { ...known, names: mergeNames(known.names, found.names) } : found)
  }
  files.expectFew(chosen.size, 'images')
  const images: ResolvedImage[] = []
  for (const found of chosen.values()) images.push(await layoutImage(files, found))
  return images
}

/** All manifests of the layout, of every platform. */
export async function layoutManifests(files: ArchiveFiles, index: ArchiveFile): Promise<LayoutManifest[]> {
  return (await groupsOfIndex(files, index)).flatMap(({ manifests }) => manifests)
}

/** One image, its parts checked against its manifest and config. */
export async function layoutImage(files: ArchiveFiles, found: LayoutManifest): Promise<ResolvedImage> {
  const { file, manifest, names } = found
  const label = names.names[0] ? formatReference(names.names[0]) : file.blob.digest
  const config = await configOf(files, found)
  const layers = await Promise.all(
    manifest.layers.map(async (layer) => present(files, layer) ?? keptBlob(files, layer)),
  )
  const missing = manifest.layers.filter((_, at) => layers[at] === undefined).map(({ digest }) => digest)
  if (missing.length > 0) throw new StrataError('layer_missing', missingText(missing, label))
  for (const { digest, mediaType } of manifest.layers)
    if (mediaType?.endsWith('+encrypted'))
      throw new StrataError('unsupported', `the layer ${digest} of the image ${label} is encrypted`)
  const image = {
    config: config.file.blob,
    manifest: file.blob,
    layers: layersOf(
      layers.filter((layer) => layer !== undefined),
      config.parsed,
      label,
    ),
    names: names.names,
    platform: found.platform ?? platformOf(config.parsed),
  }
  return { image, bareTag: names.bareTag }
}

async function configOf(files: ArchiveFiles, { file, manifest }: LayoutManifest) {
  const config = present(files, manifest.config)
  if (!config)
    throw new StrataError(
      'archive_invalid',
      `the config ${manifest.config.digest} of the manifest ${file.blob.digest} is not in the archive`,
    )
  return { file: config, parsed: await files.config(config) }
}

/** What the index says of a manifest, else its config. */
export async function platformOfManifest(files: ArchiveFiles, found: LayoutManifest): Promise<Platform> {
  return found.platform ?? platformOf((await configOf(files, found)).parsed)
}

/** Whether all that the manifest needs is in the archive, or, its layers, here. */
export async function isComplete(files: ArchiveFiles, { manifest }: LayoutManifest): Promise<boolean> {
  if (!present(files, manifest.config)) return false
  for (const layer of manifest.layers) if (!(present(files, layer) ?? (await keptBlob(files, layer)))) return false
  return true
}

/** The images of `index.json`, those of one name together. */
export async function groupsOfIndex(files: ArchiveFiles, file: ArchiveFile): Promise<LayoutGroup[]> {
  const groups = new Map<string, LayoutGroup>()
  let names = 0
  for (const [at, descriptor] of (await files.index(file)).manifests.entries()) {
    if (isAttestation(descriptor)) continue
    const blob = present(files, descriptor)
    if (!blob)
      throw new StrataError(
        'archive_invalid',
        `index.json names the manifest ${descriptor.digest}, which is not in the archive`,
      )
    const named = namesOfAnnotations(descriptor.annotations)
    files.expectFew((names += named.names.length), 'names')
    const key = imageKey(descriptor, named) ?? `${at}`
    const group = groups.get(key) ?? { roots: [], manifests: [], indexes: [], attached: [], absent: [] }
    groups.set(key, group)
    group.roots.push({ descriptor, file: blob })
    await walk(files, { descriptor, file: blob }, named, group, 1)
  }
  return [...groups.values()]
}

/**
 * Descriptors of one name that differ in platform are one image; some tools write those into
 * `index.json` itself.
 */
function imageKey(descriptor: Descriptor, { names, bareTag }: ArchiveNames): string | undefined {
  return descriptor.platform ? (names[0] ? formatReference(names[0]) : bareTag) : undefined
}

/**
 * Sorts what is at and below a descriptor into the group. Manifests of other platforms may be
 * absent: docker saves what it has.
 */
async function walk(
  files: ArchiveFiles,
  at: Described,
  names: ArchiveNames,
  group: LayoutGroup,
  depth: number,
): Promise<void> {
  const { descriptor, file } = at
  if (!isIndexType(descriptor.mediaType)) {
    if (descriptor.mediaType !== undefined && !isManifestType(descriptor.mediaType)) return
    const manifest = await files.manifest(file)
    if (isArtifact(manifest)) group.attached.push(at)
    else group.manifests.push({ file, manifest, platform: descriptor.platform ?? undefined, names })
    return
  }
  if (depth > MAX_INDEX_DEPTH)
    throw new StrataError('limit_exceeded', `the archive has more than ${MAX_INDEX_DEPTH} indexes inside each other`)
  if (depth > 1) group.indexes.push(at)
  const children = (await files.index(file)).manifests
  let isEmpty = children.length > 0
  for (const child of children) {
    const blob = present(files, child)
    if (!blob) {
      if (!isAttestation(child)) group.absent.push(child)
      continue
    }
    if (isAttestation(child)) {
      group.attached.push({ descriptor: child, file: blob })
      continue
    }
    isEmpty = false
    await walk(files, { descriptor: child, file: blob }, names, group, depth + 1)
  }
  if (isEmpty && children.some((child) => !isAttestation(child)))
    throw new StrataError('archive_invalid', `none of the manifests of the index ${file.blob.digest} is in the archive`)
}

/** The manifest for the platform wanted. Where nobody asked for one, the only one there is. */
async function forPlatform(
  files: ArchiveFiles,
  group: LayoutGroup,
  choice: PlatformChoice,
): Promise<LayoutManifest | undefined> {
  const distinct = distinctManifests(group)
  if (distinct.length === 0 || (distinct.length === 1 && 'host' in choice)) return distinct[0]
  const wanted = 'asked' in choice ? choice.asked : choice.host
  const there = await Promise.all(
    distinct.map(async (found) => ({ found, platform: await platformOfManifest(files, found) })),
  )
  const best = bestFor(there, wanted)
  if (best) return best.found
  const complete: typeof there = []
  for (const one of there) if (await isComplete(files, one.found)) complete.push(one)
  if ('host' in choice && complete.length === 1) return complete[0]?.found
  throw new StrataError(
    'unsupported',
    notForText(
      complete.map(({ platform }) => platform),
      group.absent,
      wanted,
    ),
  )
}

export function distinctManifests({ manifests }: LayoutGroup): LayoutManifest[] {
  return [...new Map(manifests.map((found) => [found.file.blob.digest, found])).values()]
}

export function notForText(there: readonly Platform[], absent: readonly Descriptor[], wanted: Platform): string {
  const named = absent.flatMap(({ platform }) => (platform ? [formatPlatform(platform)] : []))
  const without = named.length > 0 ? ` (its index also names ${named.join(', ')}, which the archive leaves out)` : ''
  return `the archive has the image for ${there.map(formatPlatform).join(', ') || 'no platform in full'}, but not for ${formatPlatform(wanted)}${without}`
}

/** The blob of a descriptor, whose length must be what the descriptor says. */
export function present(files: ArchiveFiles, { digest, size }: Descriptor): ArchiveFile | undefined {
  const file = files.findBlob(digest)
  if (file && file.blob.size !== size)
    throw new StrataError(
      'archive_invalid',
      `the blob ${digest} has ${file.blob.size} bytes; the archive’s manifests say ${size}`,
    )
  return file
}

async function keptBlob(files: ArchiveFiles, { digest, size }: Descriptor): Promise<KeptBlob | undefined> {
  return (await files.isKept(digest, size)) ? { digest, size, kept: true } : undefined
}

function missingText([first = '', ...others]: readonly string[], label: string): string {
  if (others.length === 0) return `the layer ${first} of the image ${label} is neither in the archive nor here`
  return `${others.length + 1} layers of the image ${label} are neither in the archive nor here: ${[first, ...others].join(', ')}`
}

/** BuildKit's provenance beside the platforms' manifests. */
function isAttestation({ platform, annotations }: Descriptor): boolean {
  return (
    annotations['vnd.docker.reference.type'] === 'attestation-manifest' ||
    (platform?.os === 'unknown' && platform.architecture === 'unknown')
  )
}

/**
 * Not a container image but a signature, a chart, an attestation (image-spec, manifest.md,
 * "Guidelines for Artifact Usage"); some give themselves an image's config all the same.
 */
function isArtifact({ config, layers }: Manifest): boolean {
  if (
    config.mediaType !== undefined &&
    config.mediaType !== MEDIA.config &&
    config.mediaType !== 'application/vnd.docker.container.image.v1+json'
  )
    return true
  return layers.length > 0 && layers.every(({ mediaType }) => mediaType !== undefined && !isLayerType(mediaType))
}
