import { z } from 'zod'
import { digest, tally, text } from './common.js'
import { jobQuery } from './jobs.js'

/** `POST /v1/gc`. */
export const collectSchema = z
  .strictObject({
    dryRun: z.boolean().default(false).meta({ description: 'only report what would be done' }),
    untagged: z
      .boolean()
      .default(false)
      .meta({ description: 'first remove the images without a tag that no container uses' }),
    absentContainers: z
      .array(z.string().regex(/^[0-9a-f]{64}$/))
      .max(10_000)
      .default([])
      .meta({ description: 'for a dry run: ids of containers to be taken for removed already' }),
  })
  .refine(({ dryRun, absentContainers }) => dryRun || absentContainers.length === 0, {
    message: 'absentContainers is for a dry run only',
    path: ['absentContainers'],
  })
  .meta({ id: 'CollectRequest' })
export type CollectRequest = z.input<typeof collectSchema>
export const collectQuery = jobQuery

/**
 * What a node freed, or would free: bytes on disk, a file of several names counted with the last of
 * them.
 */
export const nodeCleaningSchema = z.object({ roots: tally, layers: tally, bytes: z.number().int() })
export type NodeCleaning = z.infer<typeof nodeCleaningSchema>

/** So many of the unreadable are named in an answer. */
export const MAX_UNREADABLE = 100

export const collectResultSchema = z
  .object({
    dryRun: z.boolean(),
    images: z.array(digest).meta({ description: 'ids of the images without a tag that were removed' }),
    store: z
      .object({
        blobs: tally.meta({ description: 'blobs that nothing refers to: their data' }),
        data: tally.meta({ description: 'what uploads left behind that became no blob' }),
        indexes: tally.meta({ description: 'indexes and checkpoints of layers that are gone' }),
        records: tally.meta({ description: 'records that ended or got shorter' }),
        partialUploads: tally.meta({ description: 'writes that ended in the middle (S3)' }),
        // Absent in what an older release has recorded.
        undeleted: tally.default({ count: 0, bytes: 0 }).meta({
          description: 'objects that the store does not delete now, while a client reads them: they are still there',
        }),
        bytes: z.number().int().meta({
          description: 'of blobs, data, indexes and records: the sizes of the store’s objects shrank by this',
        }),
        linked: z.number().int().meta({
          description: 'of these bytes, those that a node’s layer on the same file system held too: freed with that',
        }),
        tombstones: tally.meta({ description: 'tombstones that stand in the store (S3)' }),
      })
      .meta({ description: 'object sizes' }),
    nodes: z
      .array(
        z.discriminatedUnion('done', [
          nodeCleaningSchema.extend({ node: z.string(), done: z.literal(true) }),
          z.object({ node: z.string(), done: z.literal(false), reason: text(10_000) }),
        ]),
      )
      .meta({ description: 'bytes on disk. A node that did not answer does its part at the next collection' }),
    // Absent in what an older release has recorded.
    unreadable: z
      .object({
        count: z.number().int().nonnegative(),
        first: z
          .array(z.object({ name: z.string(), reason: text(10_000) }))
          .max(MAX_UNREADABLE)
          .meta({ description: `at most ${MAX_UNREADABLE} of them; the log of the storage service has all` }),
      })
      .default({ count: 0, first: [] })
      .meta({
        description: 'manifests and names of images that cannot be read: what they may refer to stayed in the store',
      }),
    bytes: z.number().int().meta({ description: 'freed in all; what a blob and a layer share is counted once' }),
  })
  .meta({ id: 'CollectResult' })
export type CollectResult = z.infer<typeof collectResultSchema>

const usage = z.object({
  total: z.number().int().nonnegative(),
  active: z.number().int().nonnegative().meta({
    description: 'images that a container uses, containers that run, layers that a container or a mount stands on',
  }),
  bytes: z.number().int(),
  reclaimable: z.number().int().meta({ description: 'bytes of what is not active' }),
})
export const nodeUsageSchema = z.object({
  containers: z.array(z.object({ id: z.string(), bytes: z.number().int() })),
  layers: usage,
})
export type NodeUsage = z.infer<typeof nodeUsageSchema>
export const diskUsageSchema = z
  .object({
    images: usage.meta({ description: 'in the store; shared blobs counted once' }),
    containers: usage.meta({ description: 'what containers have written' }),
    layers: usage.meta({
      description: 'layers and roots on the nodes, made of the images; a layer may be a link to its blob',
    }),
    nodes: z.array(nodeUsageSchema.extend({ node: z.string(), answers: z.boolean() })),
  })
  .meta({ id: 'DiskUsage' })
export type DiskUsage = z.infer<typeof diskUsageSchema>
