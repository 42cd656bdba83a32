import { z } from 'zod'
import { digest, flag, text, uuid } from './common.js'
import { nextOf, pageQuery } from './page.js'

const words = z.array(text(131_072)).max(10_000)
const CONTAINER_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/

/** `POST /v1/containers`. The options mean what docker's of the same name mean. */
export const createContainerSchema = z
  .strictObject({
    image: text(300).min(1),
    command: words.optional().meta({ description: "replaces the image's Cmd" }),
    entrypoint: words.optional().meta({ description: "replaces the image's Entrypoint, and drops its Cmd" }),
    env: z
      .array(text(131_072).regex(/^[^=]+(=|$)/, 'is not NAME=VALUE'))
      .max(10_000)
      .optional(),
    workdir: text(4096).optional(),
    user: text(256).optional(),
    hostname: z
      .string()
      .regex(/^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,61}[a-zA-Z0-9])?$/)
      .optional(),
    name: z.string().regex(CONTAINER_NAME).optional(),
    network: z.enum(['none', 'host']).optional().meta({ description: 'none: only lo. Default none' }),
    autoRemove: z.boolean().optional(),
    attach: z.boolean().optional().meta({
      description:
        'a reader will follow the logs with ?attach: nothing is rotated away or removed before it came (10 s at most after the end)',
    }),
  })
  .meta({ id: 'CreateContainer' })
export type CreateContainer = z.infer<typeof createContainerSchema>

/** `unknown`: it was running, or about to, when its node was last heard of, and that is gone. */
const CONTAINER_STATES = ['created', 'running', 'exited', 'unknown'] as const
export const containerSchema = z
  .object({
    id: z.string().meta({ description: '64 hex digits' }),
    name: z.string(),
    image: z.string().meta({ description: 'as it was asked for' }),
    imageId: digest,
    node: z.string(),
    command: z.array(z.string()),
    state: z.enum(CONTAINER_STATES),
    createdAt: z.iso.datetime(),
    startedAt: z.iso.datetime().optional(),
    finishedAt: z.iso.datetime().optional(),
    pid: z.number().int().optional(),
    exitCode: z.number().int().optional(),
    starts: z.number().int().nonnegative().optional().meta({ description: 'how often it was started' }),
    waits: z.boolean().optional().meta({
      description:
        'it was created, and waits for a start: no process of it runs or is about to, also if its node is gone',
    }),
    reason: z.string().optional().meta({ description: 'why it ended without its own exit code: start interrupted, …' }),
    autoRemove: z.boolean(),
    network: z.enum(['none', 'host']),
  })
  .meta({ id: 'Container' })
export type ContainerView = z.infer<typeof containerSchema>
export const containerId = z.string().regex(/^[0-9a-f]{64}$/, 'not the id of a container: 64 hex digits')
export const containerListSchema = z
  .object({
    containers: z.array(containerSchema).meta({ description: 'within the page, the newest come first' }),
    next: nextOf(containerId, 'the order of the ids'),
  })
  .meta({ id: 'ContainerList' })
export type ContainerList = z.infer<typeof containerListSchema>

const requestQuery = z.object({ job: uuid.optional(), wait: flag(true) })
export const createContainerQuery = requestQuery.extend({
  start: flag(true).meta({ description: 'false: the container is created, and started by POST …/start' }),
})
export const startContainerQuery = requestQuery.extend({
  attach: flag(false).meta({
    description:
      'a reader will follow the logs with ?attach: nothing is rotated away or removed before it came (10 s at most after the end)',
  }),
})
export const listContainersQuery = pageQuery(containerId, 'containers').extend({
  all: flag(false).meta({ description: 'also those that do not run' }),
})
export type ListContainers = z.infer<typeof listContainersQuery>
/** Whether a container is in a list that does not ask for all. */
export const isListed = ({ state }: ContainerView): boolean => state === 'running' || state === 'unknown'
export const waitResultSchema = z
  .object({ exitCode: z.number().int(), reason: z.string().optional() })
  .meta({ id: 'WaitResult' })
export type WaitResult = z.infer<typeof waitResultSchema>
export const logsQuery = z.object({
  follow: flag(false),
  attach: flag(false).meta({
    description: 'as follow; only what the last start wrote, and it is never rotated away before this reader had it',
  }),
  stream: z.enum(['stdout', 'stderr']).optional().meta({
    description: 'that stream alone, bare; else docker’s frames: byte 0 stream (1|2), bytes 4–7 length, big-endian',
  }),
  tail: z.union([z.literal('all'), z.coerce.number().int().nonnegative().max(1_000_000_000)]).optional(),
})
export type LogsQuery = z.infer<typeof logsQuery>
export const stopSchema = z
  .strictObject({
    timeout: z
      .number()
      .int()
      .min(-1)
      .max(86_400)
      .optional()
      .meta({ description: 'seconds before SIGKILL; default 10, -1 never' }),
  })
  .meta({ id: 'StopRequest' })
export const killSchema = z
  .strictObject({
    signal: z
      .string()
      .regex(/^(SIG)?[A-Z0-9+-]{1,12}$/)
      .optional()
      .meta({ description: 'a name, with SIG or without, or a number; default KILL' }),
  })
  .meta({ id: 'KillRequest' })
export const removeContainerQuery = z.object({ force: flag(false) })

/** `POST /v1/containers/prune`. */
export const pruneContainersSchema = z
  .strictObject({ dryRun: z.boolean().default(false).meta({ description: 'only report what would be removed' }) })
  .meta({ id: 'PruneContainers' })
export type PruneContainers = z.input<typeof pruneContainersSchema>
const prunedContainer = z.object({
  id: z.string(),
  bytes: z.number().int().meta({ description: 'that it had written' }),
})
export type PrunedContainer = z.infer<typeof prunedContainer>
export const prunedContainersSchema = z
  .object({
    containers: z.array(prunedContainer),
    absent: z
      .array(z.object({ node: z.string(), reason: z.string() }))
      .meta({ description: 'nodes that did not answer: their containers stay' }),
  })
  .meta({ id: 'PrunedContainers' })
export type PrunedContainers = z.infer<typeof prunedContainersSchema>
