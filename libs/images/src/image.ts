import { isDigest, NOT_A_DIGEST, type ChainId, type Digest, type DiffId, type ImageConfig } from '@strata/oci'
import { z } from 'zod'
import { deprecationSchema } from './deprecation.js'

const digest = z.custom<Digest>(isDigest, NOT_A_DIGEST)

/**
 * A manifest or index that is kept with an image. `platform` is there if it is the manifest of an
 * image for that platform.
 */
const partSchema = z.object({
  digest,
  platform: z.string().max(100).optional(),
  /** The manifest's subject, if it has one: the manifest is listed among the referrers of that. */
  subject: digest.optional(),
})

/**
 * How many parts a record can have. More would make every record of a name large. A real index has
 * about twenty.
 */
export const MAX_PARTS = 2_000
/** How many absent children the record of an index can name (`lacks`). */
export const MAX_LACKS = MAX_PARTS
/** How many parts can have their subject in the record. More could make it too large. */
export const MAX_SUBJECTS = 500

/**
 * What the store has of a multi-platform image: one that was loaded with all its platforms and
 * attachments.
 */
const wholeSchema = z.object({
  /**
   * The manifest that is used if no platform is asked for. `id`, `layers` and `created` of the
   * record describe it.
   */
  manifest: digest,
  /**
   * `manifest`, the manifests of other platforms, indexes below the first one, attestations and
   * signatures. Anything else that an index names did not come with this image.
   */
  parts: z.array(partSchema).min(1).max(MAX_PARTS),
})
export type Whole = z.infer<typeof wholeSchema>

export const imageSchema = z.object({
  /** The digest of the config: what docker calls the image's id. */
  id: digest,
  /**
   * The digest of the manifest, or of the index of several platforms. Registries call an image by
   * it. Images with one id and several digests differ in how their layers are packed.
   */
  digest,
  /** The media type of that manifest or index, as in its descriptor. */
  mediaType: z.string().max(256),
  manifestSize: z.number().int().nonnegative(),
  /** Bytes of its layers as they are kept. */
  size: z.number().int().nonnegative(),
  /** How many layers it has. */
  layers: z.number().int().nonnegative(),
  created: z.string().max(100).optional(),
  /** By the annotations of the manifest or index. Older versions did not write it. */
  deprecated: deprecationSchema.optional(),
  whole: wholeSchema.optional(),
})
/**
 * An image as the record of each name has it. So a list reads names only, no manifest and no
 * config.
 */
export type Image = z.infer<typeof imageSchema>

/** Annotations of more bytes are not in the record: they are read from the manifest. */
export const MAX_ATTACHED_BYTES = 16 * 1024

/** What the list of its subject's referrers shows of a manifest. */
const attachedSchema = z.object({
  subject: digest,
  artifactType: z.string().max(256).optional(),
  /** Absent if they are too large for a record. */
  annotations: z.record(z.string(), z.string()).optional(),
})
export type Attached = z.infer<typeof attachedSchema>

/**
 * For whose sake a manifest has its record. `tag`: for its tags; `rmi` of the last one, or a prune,
 * ends the record. `digest`: a client has put the manifest by its digest; only a delete by digest
 * ends the record. See `Manifests`.
 */
const keptSchema = z.enum(['tag', 'digest'])
export type Kept = z.infer<typeof keptSchema>

export const plainSchema = z.object({
  digest,
  mediaType: z.string().max(256),
  manifestSize: z.number().int().nonnegative(),
  kept: keptSchema,
  attached: attachedSchema.optional(),
  deprecated: deprecationSchema.optional(),
  /** Only of an index: everything below it that the repository has (`lookBelow`). */
  whole: wholeSchema.optional(),
})
/**
 * A plain manifest, as its record carries it. It is not listed as an image: it is none (a chart, a
 * signature, an index of such), or a client has put it by its digest.
 */
export type PlainManifest = z.infer<typeof plainSchema>

/** What a record below `images/` carries. */
export type RecordedManifest = Image | PlainManifest

export function isPlain(record: RecordedManifest): record is PlainManifest {
  return 'kept' in record
}

/** The image or plain manifest that a name's entry carries. */
export function recordOf(entry: { readonly image: Image } | { readonly manifest: PlainManifest }): RecordedManifest {
  return 'image' in entry ? entry.image : entry.manifest
}

/**
 * `digests` without the manifest and its parts: the configs and layers, which a repository has as
 * blobs.
 */
export function withoutDocuments({ digest, whole }: RecordedManifest, digests: Iterable<Digest>): Digest[] {
  const documents = new Set([digest, ...(whole?.parts ?? []).map((part) => part.digest)])
  return [...digests].filter((one) => !documents.has(one))
}

/**
 * An image and all of its names in short form (`fx/odd:3`), sorted. Without names it is listed as
 * `<none>`.
 */
export interface NamedImage extends Image {
  readonly names: readonly string[]
}

/** A layer of an image, as its manifest and its config have it. */
export interface ImageLayer {
  /** The digest of the blob as it is kept; `size` and `mediaType` are that blob's too. */
  readonly digest: Digest
  readonly diffId: DiffId
  readonly chainId: ChainId
  readonly size: number
  readonly mediaType: string
}
/** A step of the config's history. */
export interface HistoryStep {
  readonly created: string | undefined
  readonly createdBy: string
  readonly comment: string
  /** The layer that this step made; `undefined` if the step changed the config only. */
  readonly diffId: DiffId | undefined
}
/** An image without its names, read from its manifest and config. Layers are lowest first. */
export interface ImageDetails extends Image {
  readonly config: ImageConfig
  readonly layerList: readonly ImageLayer[]
  readonly history: readonly HistoryStep[]
}
