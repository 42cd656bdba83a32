import {
  formatReference, imageConfigSchema, indexSchema, isIndexType, isManifestType, manifestSchema, MEDIA, StrataError, type Descriptor, type Digest, type Manifest,
} from '@strata/oci'
import { layersOf, platformOf, type Platform } from './image-archive.js'
import type { KeptBlob } from './listing.js'
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

/** A real layout has one index below `index.json`, or two. */
const MAX_INDEX_DEPTH = 4

/** The images of an OCI layout (image-spec, image-layout.md): one for each name of `index.json`, of several platforms the one that suits. */
export async function resolveLayout(files: ArchiveFiles, index: ArchiveFile, platform: Platform): Promise<ResolvedImage[]> {
  const chosen = new Map<Digest, LayoutManifest>()
  for (const manifests of await imagesOfIndex(files, index)) {
    const found = await forPlatform(files, manifests, platform)
    if (!found) continue
    const known = chosen.get(found.file.blob.digest)
    chosen.set(found.file.blob.digest, known ? { ...known, names: mergeNames(known.names, found.names) } : found)
  }
  const images: ResolvedImage[] = []
  for (const found of chosen.values()) images.push(await layoutImage(files, found))
  return images
}

/** All manifests of the layout, of every platform. */
export async function layoutManifests(files: ArchiveFiles, index: ArchiveFile): Promise<LayoutManifest[]> {
  return (await imagesOfIndex(files, index)).flat()
}

/** One image, its parts checked against its manifest and config. */
export async function layoutImage(files: ArchiveFiles, found: LayoutManifest): Promise<ResolvedImage> {
  const { file, manifest, names } = found
  const label = names.names[0] ? formatReference(names.names[0]) : file.blob.digest
  const config = await configOf(files, found)
  const layers = await Promise.all(manifest.layers.map(async (layer) => present(files, layer) ?? keptBlob(files, layer)))
  const missing = manifest.layers.filter((_, at) => layers[at] === undefined).map(({ digest }) => digest)
  if (missing.length > 0) throw new StrataError('layer_missing', missingText(missing, label))
  for (const { digest, mediaType } of manifest.layers) if (mediaType?.endsWith('+encrypted')) throw new StrataError('unsupported', `the layer ${digest} of the image ${label} is encrypted`)
  const image = { config: config.file.blob, manifest: file.blob, layers: layersOf(layers.filter((layer) => layer !== undefined), config.parsed, label), names: names.names, platform: platformOf(config.parsed) }
  return { image, bareTag: names.bareTag }
}

async function configOf(files: ArchiveFiles, { file, manifest }: LayoutManifest) {
  const config = present(files, manifest.config)
  if (!config) throw new StrataError('archive_invalid', `the config ${manifest.config.digest} of the manifest ${file.blob.digest} is not in the archive`)
  return { file: config, parsed: await files.json(config, imageConfigSchema) }
}

/** For each image of `index.json` its manifests, one a platform. */
async function imagesOfIndex(files: ArchiveFiles, file: ArchiveFile): Promise<LayoutManifest[][]> {
  const images = new Map<string, LayoutManifest[]>()
  for (const [at, descriptor] of (await files.json(file, indexSchema)).manifests.entries()) {
    if (isAttestation(descriptor)) continue
    const blob = present(files, descriptor)
    if (!blob) throw new StrataError('archive_invalid', `index.json names the manifest ${descriptor.digest}, which is not in the archive`)
    const names = namesOfAnnotations(descriptor.annotations)
    const key = imageKey(descriptor, names) ?? `${at}`
    images.set(key, [...(images.get(key) ?? []), ...(await manifestsBelow(files, blob, descriptor, names, 1))])
  }
  return [...images.values()]
}

/** Descriptors of one name that differ in platform are one image; some tools write those into `index.json` itself. */
function imageKey(descriptor: Descriptor, { names, bareTag }: ArchiveNames): string | undefined {
  return descriptor.platform ? (names[0] ? formatReference(names[0]) : bareTag) : undefined
}

/** The manifests of images at and below a descriptor. Those of other platforms may be absent: docker saves what it has. */
async function manifestsBelow(files: ArchiveFiles, file: ArchiveFile, descriptor: Descriptor, names: ArchiveNames, depth: number): Promise<LayoutManifest[]> {
  if (!isIndexType(descriptor.mediaType)) {
    if (descriptor.mediaType !== undefined && !isManifestType(descriptor.mediaType)) return []
    const manifest = await files.json(file, manifestSchema)
    return isArtifact(manifest) ? [] : [{ file, manifest, platform: descriptor.platform ?? undefined, names }]
  }
  if (depth > MAX_INDEX_DEPTH) throw new StrataError('limit_exceeded', `the archive has more than ${MAX_INDEX_DEPTH} indexes inside each other`)
  const children = (await files.json(file, indexSchema)).manifests.filter((child) => !isAttestation(child))
  const there = children.flatMap((child) => {
    const blob = present(files, child)
    return blob ? [{ child, blob }] : []
  })
  if (children.length > 0 && there.length === 0) throw new StrataError('archive_invalid', `none of the manifests of the index ${file.blob.digest} is in the archive`)
  const found: LayoutManifest[] = []
  for (const { child, blob } of there) found.push(...(await manifestsBelow(files, blob, child, names, depth + 1)))
  return found
}

/** The manifest for `wanted`, else the only one. */
async function forPlatform(files: ArchiveFiles, manifests: readonly LayoutManifest[], wanted: Platform): Promise<LayoutManifest | undefined> {
  const distinct = [...new Map(manifests.map((found) => [found.file.blob.digest, found])).values()]
  if (distinct.length <= 1) return distinct[0]
  const platforms: string[] = []
  for (const found of distinct) {
    const platform = found.platform ?? platformOf((await configOf(files, found)).parsed)
    if (platform.os === wanted.os && platform.architecture === wanted.architecture && (!wanted.variant || platform.variant === wanted.variant)) return found
    platforms.push([platform.os, platform.architecture, platform.variant].filter(Boolean).join('/'))
  }
  throw new StrataError('unsupported', `the archive has the image for ${platforms.join(', ')}, but not for ${wanted.os}/${wanted.architecture}`)
}

/** The blob of a descriptor, whose length must be what the descriptor says. */
function present(files: ArchiveFiles, { digest, size }: Descriptor): ArchiveFile | undefined {
  const file = files.findBlob(digest)
  if (file && file.blob.size !== size) throw new StrataError('archive_invalid', `the blob ${digest} has ${file.blob.size} bytes; the archive’s manifests say ${size}`)
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
  return annotations['vnd.docker.reference.type'] === 'attestation-manifest' || (platform?.os === 'unknown' && platform.architecture === 'unknown')
}

/** Not a container image but a signature, a chart, an attestation (image-spec, manifest.md, "Guidelines for Artifact Usage"). */
function isArtifact({ config }: Manifest): boolean {
  return config.mediaType !== undefined && config.mediaType !== MEDIA.config && config.mediaType !== 'application/vnd.docker.container.image.v1+json'
}
