import { isDigest, NOT_A_DIGEST, type ChainId, type Digest, type DiffId, type ImageConfig } from '@strata/oci'
import { z } from 'zod'

const digest = z.custom<Digest>(isDigest, NOT_A_DIGEST)

/**
 * A manifest or index that is kept with an image, and of which platform it is, if it is an image's.
 */
const partSchema = z.object({ digest, platform: z.string().max(100).optional() })

/** More would make every record of a name large. A real index has some twenty. */
export const MAX_PARTS = 2_000

/** What is here of an image that was loaded with all its platforms and attachments. */
const wholeSchema = z.object({
  /**
   * The image that is meant where no platform is asked for: `id`, `layers` and `created` are its.
   */
  manifest: digest,
  /**
   * That one, the other platforms', indexes below the first, attestations, signatures: what an
   * index names and is not among these was never here.
   */
  parts: z.array(partSchema).min(1).max(MAX_PARTS),
})
export type Whole = z.infer<typeof wholeSchema>

export const imageSchema = z.object({
  /** The digest of the config: what docker calls the image's id. */
  id: digest,
  /**
   * The digest of the manifest, or of the index of several platforms: what a registry calls it.
   * Images with one id and several digests differ in how their layers are packed.
   */
  digest,
  /** Of the manifest, as in its descriptor. */
  mediaType: z.string().max(256),
  manifestSize: z.number().int().nonnegative(),
  /** Bytes of its layers as they are kept, and how many. */
  size: z.number().int().nonnegative(),
  layers: z.number().int().nonnegative(),
  created: z.string().max(100).optional(),
  whole: wholeSchema.optional(),
})
/**
 * An image as every name's record carries it, so that a list reads names only, no manifest and no
 * config.
 */
export type Image = z.infer<typeof imageSchema>

/**
 * An image and all of its names in short form (`fx/odd:3`), sorted; none: it is listed as `<none>`.
 */
export interface NamedImage extends Image {
  readonly names: readonly string[]
}

export interface ImageLayer {
  /** Of the blob as it is kept. */
  readonly digest: Digest
  readonly diffId: DiffId
  readonly chainId: ChainId
  readonly size: number
  readonly mediaType: string
}
export interface HistoryStep {
  readonly created: string | undefined
  readonly createdBy: string
  readonly comment: string
  /** The layer that this step made; `undefined` for one that changed the config only. */
  readonly diffId: DiffId | undefined
}
/** All of an image but its names, read from its manifest and config. Layers lowest first. */
export interface ImageDetails extends Image {
  readonly config: ImageConfig
  readonly layerList: readonly ImageLayer[]
  readonly history: readonly HistoryStep[]
}
