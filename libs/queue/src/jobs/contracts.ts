import { collectResultSchema, imageRefSchema, layerRefSchema, loadResultSchema, nodeCleaningSchema } from '@strata/api'
import { isDiffId, isDigest, NOT_A_DIGEST, PLATFORM, type DiffId, type Digest } from '@strata/oci'
import { z } from 'zod'

/** What jobs and requests answer has one shape each, in `@strata/api`. */
export { MAX_TOLD_LAYERS, MAX_UNREADABLE } from '@strata/api'
export type { LayerProgress, LayerRef, LoadReport } from '@strata/api'

/**
 * The job contracts: a public API. Whoever reaches Redis may add these jobs and gets the same work
 * done; the schemas are checked by producer and worker alike. Write access to Redis is therefore
 * root on every node.
 *
 * | job | queue | what its worker does | result |
 * | --- | --- | --- | --- |
 * | `load` | `ingest` | makes images of an upload whose bytes have come | the images |
 * | `import` | `ingest` | makes one image of an upload that is a tree in a tar | the images: one |
 * | `pull` | `pull` | brings an image from another registry, and makes it an image here | the images |
 * | `extract` | `extract`, `extract.<node>` | proves a layer, indexes it, makes it usable on the node that works | the node |
 * | `place` | `runtime` | finds a node (the one that takes it) and adds `launch` or `assemble` there, with an `extract` child for each layer it lacks | the node |
 * | `assemble` | `assemble.<node>` | the image's read-only root | the node |
 * | `launch` | `runtime.<node>` | a container's process, at most once; with `start: false` only the container | the container |
 * | `start` | `runtime.<node>` | the process of a container that is there and does not run, at most once a number | the container |
 * | `sweep` | `storage` | ends uploads whose owner died, queues those that wait for a job, ends jobs of nodes that are gone | what was done |
 * | `forget-node` | `storage` | forgets a node that is gone: ends its jobs, frees its containers' names | the node |
 * | `collect-due` | `storage` | queues a `collect` of its own request, if none is under way; added by the schedule | whether it did |
 * | `collect` | `collect` | takes what nobody needs out of the store, then has every live node do the same by `clean` | what was freed |
 * | `clean` | `runtime.<node>` | takes roots and layers that nobody needs off the node | what was freed |
 *
 * Laws: data is small (ids, digests, names), no content and no secret in clear; every job may run
 * twice, even at the same time, and ends the same. `root` is the request that all jobs of a tree
 * belong to: its id is the id of the REST job, of the journal, and of the cancel record.
 */
const digest = z.custom<Digest>(isDigest, NOT_A_DIGEST)
const diffId = z.custom<DiffId>(isDiffId, 'not a sha256 digest')
const root = z.uuid()
const nodeId = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/)
const CONTAINER_ID = /^[0-9a-f]{64}$/

/**
 * A layer to be unpacked. Without a diffID it is whatever the blob unpacks to, which is then noted
 * in the blob's record.
 */
const extractRefSchema = layerRefSchema.extend({ diffId: diffId.optional() })
export type ExtractRef = z.infer<typeof extractRefSchema>

/**
 * What of a request to launch may stand in clear. `sealed` holds all that the caller says of the
 * process, readable by nodes only (seal.ts). `workdir`, `user` and `hostname` are of jobs that an
 * older gateway wrote; what is sealed counts over them.
 */
const launchSpecSchema = z.object({
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
  /** False: the container is created, and no process is started. Jobs of d5153a4 do not say it. */
  start: z.boolean().default(true),
})
export type LaunchSpec = z.infer<typeof launchSpecSchema>

/** What `sealed` opens to. */
export const sealedSchema = z.object({
  command: z.array(z.string()).optional(),
  entrypoint: z.array(z.string()).optional(),
  env: z.array(z.string()),
  workdir: z.string().optional(),
  user: z.string().optional(),
  hostname: z.string().optional(),
})
export type SealedSpec = z.infer<typeof sealedSchema>

/** What `sealed` of a pull opens to: one of docker's three ways to say who asks. */
export const pullCredentialsSchema = z.union([
  z.object({ username: z.string(), password: z.string() }),
  z.object({ identityToken: z.string() }),
  z.object({ registryToken: z.string() }),
])
export type PullCredentials = z.infer<typeof pullCredentialsSchema>

/** What a dry run takes for removed already. */
const absentSchema = z.object({
  /** Manifests of images. */
  images: z.array(digest).max(10_000),
  containers: z.array(z.string().regex(CONTAINER_ID)).max(10_000),
  /** Layers whose index the store would have no more. */
  indexes: z.array(diffId).max(10_000),
})

export const CONTRACTS = {
  load: {
    data: z.object({
      root,
      upload: root,
      prepare: z.boolean(),
      name: z.string().optional(),
      /** By default the worker's own, or the only one in the archive. */
      platform: z.union([z.literal('all'), z.string().regex(PLATFORM)]).optional(),
    }),
    result: loadResultSchema,
    endsRoot: true,
  },
  import: {
    data: z.object({ root, upload: root, prepare: z.boolean(), name: z.string().optional() }),
    result: loadResultSchema.pick({ images: true }),
    endsRoot: true,
  },
  pull: {
    data: z.object({
      root,
      /** The lease, which says how far the pull has come. */
      upload: root,
      /** The full form, with a tag or a digest. */
      reference: z.string().max(512),
      prepare: z.boolean(),
      platform: z.union([z.literal('all'), z.string().regex(PLATFORM)]).optional(),
      /** The registry may answer by HTTP, or with a certificate that nobody vouches for. */
      insecure: z.boolean(),
      /** Who asks there (`pullCredentialsSchema`), readable by the ingest service only. */
      sealed: z
        .string()
        .max(64 * 1024)
        .optional(),
    }),
    result: loadResultSchema,
    endsRoot: true,
  },
  extract: {
    data: z.object({ root, layer: extractRefSchema }),
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
  start: {
    data: z.object({
      root,
      container: z.string().regex(CONTAINER_ID),
      /**
       * Which start of the container it is: one more than there had been when the request came.
       * Requests that come at the same time have the same number, and start one process.
       */
      number: z.number().int().positive(),
      /** A foreground reader will come for the output. */
      attach: z.boolean(),
    }),
    result: z.object({ node: nodeId, container: z.string().regex(CONTAINER_ID) }),
    endsRoot: true,
  },
  sweep: {
    data: z.object({}),
    result: z.object({ ended: z.array(z.string()), queued: z.array(z.string()) }),
    endsRoot: false,
  },
  'forget-node': {
    data: z.object({
      node: nodeId,
      /** Also with containers that may still be running there. */
      force: z.boolean(),
      /** The request, by which a second run knows its own work. */
      by: root,
    }),
    result: z.object({ node: nodeId }),
    endsRoot: false,
  },
  'collect-due': {
    data: z.object({}),
    result: z.object({ queued: z.boolean() }),
    endsRoot: false,
  },
  collect: {
    data: z.object({
      root,
      dryRun: z.boolean(),
      /** Images without a tag that no container uses go first. */
      untagged: z.boolean(),
      /** Of a dry run: containers that are to be taken for removed. */
      absentContainers: z.array(z.string().regex(CONTAINER_ID)).max(10_000),
    }),
    result: collectResultSchema,
    endsRoot: true,
  },
  // Without a root: its failure is a node's that could not do its part, not the request's.
  clean: {
    data: z.object({ dryRun: z.boolean(), absent: absentSchema }),
    result: nodeCleaningSchema,
    endsRoot: false,
  },
} as const satisfies Record<string, { data: z.ZodType; result: z.ZodType; endsRoot: boolean }>

export type JobName = keyof typeof CONTRACTS
export type JobData<N extends JobName> = z.infer<(typeof CONTRACTS)[N]['data']>
export type JobResult<N extends JobName> = z.infer<(typeof CONTRACTS)[N]['result']>

/** A job's result as its contract has it, from Redis. */
export function parseResult<N extends JobName>(name: N, value: unknown): JobResult<N> {
  return CONTRACTS[name].result.parse(value) as JobResult<N>
}

/** Which jobs a queue carries. A worker of the queue handles them all or does not start. */
export const QUEUE_JOBS = {
  ingest: ['load', 'import'],
  // Of its own, so that registries that are slow hold up no load.
  pull: ['pull'],
  extract: ['extract'],
  runtime: ['place'],
  // An `assemble` here is one that an older release added.
  'runtime.node': ['assemble', 'launch', 'start', 'clean'],
  // Of its own, so that images that take long to assemble do not hold up launches.
  'assemble.node': ['assemble'],
  storage: ['sweep', 'collect-due', 'forget-node'],
  // Of its own, so that uploads are looked over however many collections wait.
  collect: ['collect'],
} as const satisfies Record<string, readonly JobName[]>
export type QueueKind = keyof typeof QUEUE_JOBS

export const QUEUES = {
  ingest: 'ingest',
  pull: 'pull',
  extract: 'extract',
  runtime: 'runtime',
  storage: 'storage',
  collect: 'collect',
  /** Layers for one node: work that must happen there. */
  extractOn: (node: string) => `extract.${node}`,
  runtimeOn: (node: string) => `runtime.${node}`,
  assembleOn: (node: string) => `assemble.${node}`,
}
/** The queues that are not one node's. */
export const SHARED_QUEUES = Object.values(QUEUES).filter((queue) => typeof queue === 'string')
