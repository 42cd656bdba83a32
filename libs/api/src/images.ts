import { ARCHIVE_FORMATS } from '@strata/oci'
import { z } from 'zod'
import { chainId, diffId, digest, flag, optionalFlag, platform, tally, text } from './common.js'
import { jobQuery } from './jobs.js'
import { nextOf, pageQuery } from './page.js'

const imageBase = {
  id: digest.meta({ description: "the image's id: its config's digest" }),
  digest: digest.meta({ description: "its manifest's digest; of an image kept with all its platforms, the index's" }),
  names: z.array(z.string()).meta({ description: 'short forms, sorted; empty for an image without a tag' }),
  size: z.number().int().meta({ description: 'bytes of its layers as they are kept' }),
  created: z.string().optional(),
  platforms: z
    .array(z.string())
    .optional()
    .meta({ description: 'of an image kept with all its platforms: those that are here' }),
}
export const imageQuery = z.object({
  platform: platform.optional().meta({ description: 'of an image kept with several platforms: which is meant' }),
})
const imageSummarySchema = z.object({ ...imageBase, layers: z.number().int() }).meta({ id: 'ImageSummary' })
export type ImageSummary = z.infer<typeof imageSummarySchema>
export const imageListQuery = pageQuery(digest, 'images')
export const imageListSchema = z
  .object({
    images: z.array(imageSummarySchema).meta({
      description: 'within the page, named images come first, then the newest',
    }),
    next: nextOf(digest, 'the order of the digests'),
  })
  .meta({ id: 'ImageList' })
export type ImageList = z.infer<typeof imageListSchema>

export const imageSchema = z
  .object({
    ...imageBase,
    mediaType: z.string(),
    architecture: z.string(),
    os: z.string(),
    config: z.object({
      user: z.string(),
      env: z.array(z.string()),
      entrypoint: z.array(z.string()),
      cmd: z.array(z.string()),
      workdir: z.string(),
      volumes: z.array(z.string()),
      exposedPorts: z.array(z.string()),
      labels: z.record(z.string(), z.string()),
      stopSignal: z.string(),
    }),
    layers: z
      .array(
        z.object({
          digest,
          diffId,
          chainId,
          size: z.number().int(),
          mediaType: z.string(),
          missing: z.literal(true).optional().meta({
            description: 'there if the layer is not here: what needs its bytes is refused until somebody pushes it',
          }),
        }),
      )
      .meta({ description: 'lowest first' }),
    history: z.array(
      z.object({
        created: z.string().optional(),
        createdBy: z.string(),
        comment: z.string(),
        diffId: diffId.optional().meta({ description: 'the layer this step made; none for a step of metadata only' }),
      }),
    ),
  })
  .meta({ id: 'Image' })
export type ImageView = z.infer<typeof imageSchema>

export const loadQuery = jobQuery.extend({
  name: text(300)
    .optional()
    .meta({ description: 'the name for an image whose archive gives none, or only a bare tag' }),
  platform: z
    .union([z.literal('all'), platform])
    .optional()
    .meta({
      description:
        "which platform of an image that has several, `all` to keep every one and what is attached; by default this machine's, or the only one in the archive. Of an import: what the tree is for; the service's own if left out",
    }),
  prepare: optionalFlag().meta({
    description: "assemble the image's root on the node as well, as docker load unpacks too",
  }),
  import: text(300).optional().meta({
    description:
      'the body is no archive of images but a root file system in a tar, plain, gzip, zstd, bzip2 or xz: it becomes the one layer of an image of this name; empty: of none',
  }),
  change: z
    .union([z.string(), z.array(z.string())])
    .optional()
    .transform((value) => [value ?? []].flat())
    .meta({ description: 'of an import: an instruction in Dockerfile syntax for the image’s config; may be repeated' }),
  message: text(2000).optional().meta({ description: 'of an import: the comment of the image and of its history' }),
  timestamp: z.coerce.number().int().min(0).max(253_402_300_799).optional().meta({
    description:
      'of an import: when the image was created, in seconds since 1970; 0 if left out, so that the same tree gives the same image',
  }),
  pull: text(512).min(1).optional().meta({
    description:
      'there is no body: the image of this name is pulled from the registry in the name, by tag or digest. `platform` chooses of an index as for a load, and `X-Registry-Auth` says who asks',
  }),
  insecure: optionalFlag().meta({
    description: 'of a pull: the registry may answer by HTTP, or with a certificate that nobody vouches for',
  }),
})
/**
 * Of a pull: docker’s own header, base64url of `registryAuthSchema` in JSON, of at most so many
 * bytes. The gateway seals it; no record, log or queue has it in clear.
 */
export const REGISTRY_AUTH_HEADER = 'x-registry-auth'
export const MAX_REGISTRY_AUTH = 16 * 1024
const secret = text(MAX_REGISTRY_AUTH)
/** As docker’s API has it (`AuthConfig`). What is empty counts as left out. */
export const registryAuthSchema = z
  .object({
    username: secret.optional(),
    password: secret.optional(),
    identitytoken: secret.optional(),
    // It becomes a header as it is.
    registrytoken: secret.regex(/^[\x21-\x7e]*$/).optional(),
    serveraddress: text(512).optional(),
  })
  .meta({ id: 'RegistryAuth' })
export type RegistryAuth = z.infer<typeof registryAuthSchema>
export type LoadQuery = z.infer<typeof loadQuery>
/**
 * A load whose body is not the archive, but names a file that the caller has open: over the unix
 * socket only.
 */
export const DESCRIPTOR_TYPE = 'application/vnd.strata.descriptor+json'
const statNumber = z.string().regex(/^[0-9]{1,20}$/)
export const descriptorSchema = z
  .object({
    fd: z
      .number()
      .int()
      .min(0)
      .max(2 ** 31 - 1)
      .meta({ description: 'its number in the process that connected, which keeps it open until it is answered' }),
    dev: statNumber.meta({ description: 'st_dev, decimal, as the other fields of stat' }),
    ino: statNumber,
    size: statNumber,
    mtimeNs: z.string().regex(/^-?[0-9]{1,20}$/),
  })
  .meta({ id: 'Descriptor' })
export type Descriptor = z.infer<typeof descriptorSchema>

export const loadResultSchema = z
  .object({
    images: z.array(
      z.object({
        id: digest,
        digest,
        names: z.array(z.string()),
        layers: z.number().int(),
        platforms: z
          .array(z.string())
          .optional()
          .meta({ description: 'with platform=all, of an image that has several or attachments: those that came' }),
        missing: z
          .array(z.string())
          .optional()
          .meta({ description: 'platforms that its index names and the archive has not' }),
      }),
    ),
    found: z
      .object({
        format: z.enum(ARCHIVE_FORMATS),
        writer: z.string().optional().meta({
          description: 'the tool that wrote the archive, or the library of several, where its names show that',
        }),
        layers: z.object({
          new: tally,
          known: tally.meta({ description: 'layers that were here already: bytes that are kept once' }),
        }),
      })
      .optional(),
    pulled: z
      .object({
        name: z.string().meta({ description: 'what was pulled, in its short form, with its tag or digest' }),
        digest: digest.meta({ description: 'of the manifest or index that the registry has under that name' }),
        mediaType: z.string(),
        changed: z.boolean().meta({ description: 'false: the name stood for this digest already' }),
        blobs: z.object({
          new: tally,
          known: tally.meta({ description: 'blobs that were here already, and were not fetched' }),
        }),
      })
      .optional()
      .meta({ description: 'of a pull. `images` is empty if what was pulled is no image: a chart, a signature' }),
  })
  .meta({ id: 'LoadResult' })
export type LoadResult = z.infer<typeof loadResultSchema>
/** What an archive was and brought. */
export type LoadReport = NonNullable<LoadResult['found']>

export const removeImageQuery = z.object({ force: flag(false) })
export const removeImageResultSchema = z
  .object({ untagged: z.array(z.string()), deleted: z.array(digest) })
  .meta({ id: 'RemovedImage' })
export type RemoveImageResult = z.infer<typeof removeImageResultSchema>
export const tagSchema = z.object({ name: text(300).min(1) }).meta({ id: 'TagRequest' })
export const mountResultSchema = z
  .object({ id: digest, path: z.string().meta({ description: "the image's root, read-only, on the node" }) })
  .meta({ id: 'MountedImage' })
export type MountResult = z.infer<typeof mountResultSchema>
