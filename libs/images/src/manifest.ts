import { StrataError, type ErrorCode } from '@strata/base'
import {
  chainIds,
  diffIdsOf,
  imageConfigSchema,
  isLayerType,
  isManifestType,
  layerMediaType,
  manifestSchema,
  MAX_JSON_BYTES,
  MEDIA,
  parseJson,
  textsSchema,
  type Digest,
  type ImageConfig,
  type Manifest,
} from '@strata/oci'
import type { BlobStore } from '@strata/store'
import { z } from 'zod'
import { deprecationOf, type Deprecation } from './deprecation.js'
import { MayLack } from './may-lack.js'
import type { HistoryStep, Image, ImageLayer } from './image.js'

/** A manifest with its config, checked against each other. */
export interface ReadImage {
  readonly image: Image
  readonly manifest: Manifest
  readonly config: ImageConfig
}

/**
 * Reads an image's manifest, and its config from the store. `digest` is the digest of `bytes`.
 * @throws StrataError `not_an_image` if one of them is not valid, or if they differ in the number
 * of layers; `not_found` if the config is not in the store
 */
export async function readManifest(digest: Digest, bytes: Uint8Array, blobs: BlobStore): Promise<ReadImage> {
  const manifest = parseJson(manifestSchema, bytes, `manifest ${digest}`, 'not_an_image')
  if (manifest.mediaType !== undefined && !isManifestType(manifest.mediaType))
    throw new StrataError(
      'not_an_image',
      `manifest ${digest} says that it is ${JSON.stringify(manifest.mediaType.slice(0, 100))}`,
    )
  const id = manifest.config.digest
  const config = parseJson(imageConfigSchema, await blobs.read(id, MAX_JSON_BYTES), `config ${id}`, 'not_an_image')
  const diffIds = diffIdsOf(config)
  if (diffIds.length !== manifest.layers.length)
    throw new StrataError(
      'not_an_image',
      `manifest ${digest} has ${manifest.layers.length} layers, its config ${diffIds.length}`,
    )
  const size = manifest.layers.reduce((sum, layer) => sum + layer.size, 0)
  expectSize(size, digest)
  const image: Image = {
    id,
    digest,
    mediaType: manifest.mediaType ?? MEDIA.manifest,
    manifestSize: bytes.length,
    size,
    layers: manifest.layers.length,
    ...(config.created ? { created: config.created.slice(0, 100) } : {}),
    deprecated: deprecationOf(manifest.annotations),
  }
  return { image, manifest, config }
}

/**
 * The layers of an image have so many bytes. Each size may be a number that JSON holds exactly, and
 * their sum none: no record could have it.
 * @throws StrataError `not_an_image`
 */
export function expectSize(size: number, digest: Digest): void {
  if (!Number.isSafeInteger(size))
    throw new StrataError('not_an_image', `manifest ${digest} says that its layers have ${size} bytes`)
}

/** The layers of an image, lowest first, with their diffIDs and chain ids. */
export function layersOf({ manifest, config }: ReadImage): ImageLayer[] {
  const diffIds = diffIdsOf(config)
  const chain = chainIds(diffIds)
  return manifest.layers.map(({ digest, size, mediaType }, i) => ({
    digest,
    size,
    mediaType: mediaType ?? layerMediaType('none'),
    diffId: diffIds[i]!,
    chainId: chain[i]!,
  }))
}

const NO_IMAGE: ReadonlySet<ErrorCode> = new Set(['not_an_image', 'not_found', 'limit_exceeded'])

/**
 * The layers of the manifest with this digest that can be unpacked, lowest first. Empty if it is no
 * image's (an index, a chart, a signature), or if it or its config is not in the store.
 *
 * The media types of the layers decide: some signatures have an image's config.
 */
export async function unpackableLayers(digest: Digest, blobs: BlobStore): Promise<ImageLayer[]> {
  try {
    const read = await readManifest(digest, await blobs.read(digest, MAX_JSON_BYTES), blobs)
    return layersOf(read).filter(({ mediaType }) => isLayerType(mediaType))
  } catch (error) {
    if (error instanceof StrataError && NO_IMAGE.has(error.code)) return []
    throw error
  }
}

/**
 * The steps of the config's history, each with its layer. The steps that are not `empty_layer` made
 * the layers, in their order (image-spec, config.md, "history").
 */
export function historyOf({ config }: ReadImage): HistoryStep[] {
  const diffIds = diffIdsOf(config).values()
  return (config.history ?? []).map((step) => ({
    created: step.created ?? undefined,
    createdBy: step.created_by,
    comment: step.comment,
    diffId: step.empty_layer ? undefined : diffIds.next().value,
  }))
}

/** All that an image is made of. */
export interface ImageBlobs {
  /** Every blob, and its size. */
  readonly blobs: ReadonlyMap<Digest, number>
  /** Those of the blobs that may be missing (`MayLack`). */
  readonly mayLack: ReadonlySet<Digest>
}

/** `takesSparse`: every layer may be missing. */
export function blobsOf({ image, manifest }: ReadImage, takesSparse = false): ImageBlobs {
  const blobs = [{ digest: image.digest, size: image.manifestSize }, manifest.config, ...manifest.layers]
  return {
    blobs: new Map(blobs.map(({ digest, size }) => [digest, size])),
    mayLack: new MayLack(takesSparse).add(manifest).digests,
  }
}

/** The media type of a manifest or an index, as in its descriptor, and what its annotations say. */
export function readRoot(document: Uint8Array): {
  readonly mediaType: string
  readonly deprecated: Deprecation | undefined
} {
  const { mediaType, manifests, annotations } = parseJson(
    z.object({
      mediaType: z.string().max(256).optional(),
      manifests: z.unknown(),
      annotations: textsSchema.nullish().catch(undefined),
    }),
    document,
    'an image’s manifest',
    'not_an_image',
  )
  return {
    mediaType: mediaType ?? (manifests === undefined ? MEDIA.manifest : MEDIA.index),
    deprecated: deprecationOf(annotations),
  }
}
