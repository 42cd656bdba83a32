import { isDigest, type DiffId, type Digest } from '@strata/oci'
import { z } from 'zod'

/**
 * The job contracts: a public API. Whoever reaches Redis may add these jobs and gets the same work done; the schemas are checked by
 * producer and worker alike. Write access to Redis is therefore root on every node.
 *
 * | job | queue | what its worker does | result |
 * | --- | --- | --- | --- |
 * | `load` | `ingest` | makes images of an upload whose bytes have come | the images |
 * | `extract` | `extract`, `extract.<node>` | proves a layer, indexes it, makes it usable on the node that works | the node |
 * | `place` | `runtime` | finds a node (the one that takes it) and adds `launch` or `assemble` there, with an `extract` child for each layer it lacks | the node |
 * | `assemble` | `runtime.<node>` | the image's read-only root | the node |
 * | `launch` | `runtime.<node>` | a container's process, at most once | the container |
 * | `sweep` | `storage` | ends uploads whose owner died, queues those that wait for a job | what was done |
 *
 * Laws: data is small (ids, digests, names), no content and no secret in clear; every job may run twice, even at the same time, and ends the
 * same. `root` is the request that all jobs of a tree belong to: its id is the id of the REST job, of the journal, and of the cancel record.
 */
const digest = z.custom<Digest>(isDigest, 'not a sha256 digest')
const diffId = z.custom<DiffId>(isDigest, 'not a sha256 digest')
const root = z.uuid()
const nodeId = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/)
export const CONTAINER_ID = /^[0-9a-f]{64}$/

export const layerRefSchema = z.object({ digest, diffId, size: z.number().int().nonnegative() })
/** A layer as a job names it: the blob that holds it, and what it is once inflated. */
export type LayerRef = z.infer<typeof layerRefSchema>

/** An image as jobs name it. */
export const imageRefSchema = z.object({ id: digest, digest, layers: z.array(layerRefSchema).max(10_000) })
export type ImageRef = z.infer<typeof imageRefSchema>

/** What of a request to launch may stand in clear. `sealed` holds command, entrypoint and environment, readable by nodes only (seal.ts). */
export const launchSpecSchema = z.object({
  container: z.string().regex(CONTAINER_ID),
  name: z.string(),
  imageName: z.string(),
  image: imageRefSchema,
  sealed: z.string().max(4 * 1024 * 1024),
  workdir: z.string().optional(),
  user: z.string().optional(),
  hostname: z.string().optional(),
  network: z.enum(['none', 'host']),
  autoRemove: z.boolean(),
  attach: z.boolean(),
})
export type LaunchSpec = z.infer<typeof launchSpecSchema>

/** What `sealed` opens to. */
export const sealedSchema = z.object({ command: z.array(z.string()).optional(), entrypoint: z.array(z.string()).optional(), env: z.array(z.string()) })
export type SealedSpec = z.infer<typeof sealedSchema>

export const CONTRACTS = {
  load: {
    data: z.object({ root, upload: root, prepare: z.boolean(), name: z.string().optional() }),
    result: z.object({ images: z.array(z.object({ id: digest, digest, names: z.array(z.string()), layers: z.number().int() })) }),
    endsRoot: true,
  },
  extract: {
    data: z.object({ root, layer: layerRefSchema }),
    result: z.object({ node: nodeId, made: z.boolean() }),
    endsRoot: false,
  },
  place: {
    data: z.discriminatedUnion('purpose', [
      z.object({ root, purpose: z.literal('launch'), launch: launchSpecSchema }),
      z.object({ root, purpose: z.literal('assemble'), image: imageRefSchema }),
    ]),
    result: z.object({ node: nodeId }),
    endsRoot: false,
  },
  assemble: {
    data: z.object({ root, image: imageRefSchema }),
    result: z.object({ node: nodeId, id: digest }),
    endsRoot: true,
  },
  launch: {
    data: z.object({ root, launch: launchSpecSchema }),
    result: z.object({ node: nodeId, container: z.string().regex(CONTAINER_ID) }),
    endsRoot: true,
  },
  sweep: {
    data: z.object({}),
    result: z.object({ ended: z.array(z.string()), queued: z.array(z.string()) }),
    endsRoot: false,
  },
} as const satisfies Record<string, { data: z.ZodType; result: z.ZodType; endsRoot: boolean }>

export type JobName = keyof typeof CONTRACTS
export type JobData<N extends JobName> = z.infer<(typeof CONTRACTS)[N]['data']>
export type JobResult<N extends JobName> = z.infer<(typeof CONTRACTS)[N]['result']>

/** Which jobs a queue carries. A worker of the queue handles them all or does not start. */
export const QUEUE_JOBS = {
  ingest: ['load'],
  extract: ['extract'],
  runtime: ['place'],
  'runtime.node': ['assemble', 'launch'],
  storage: ['sweep'],
} as const satisfies Record<string, readonly JobName[]>
export type QueueKind = keyof typeof QUEUE_JOBS

export const QUEUES = {
  ingest: 'ingest',
  extract: 'extract',
  runtime: 'runtime',
  storage: 'storage',
  /** Layers for one node: work that must happen there. */
  extractOn: (node: string) => `extract.${node}`,
  runtimeOn: (node: string) => `runtime.${node}`,
}
