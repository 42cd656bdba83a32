import { ERROR_CODES } from '@strata/base'
import { z } from 'zod'
import { digest, flag, uuid } from './common.js'
import { nextOf, pageQuery } from './page.js'

/**
 * What a request became: read, followed and cancelled from the first byte of its body on.
 * `receiving` bytes arrive · `waiting` no worker has it yet · `active` a worker is at it ·
 * `completed` `failed` `cancelled` its end, kept for a day.
 */
export const JOB_STATES = ['receiving', 'waiting', 'active', 'completed', 'failed', 'cancelled'] as const
/** What a request asks for. */
export const JOB_KINDS = ['load', 'import', 'pull', 'launch', 'start', 'prepare', 'collect'] as const
export type JobKind = (typeof JOB_KINDS)[number]

/** A pull tells of so many of its layers, the largest. */
export const MAX_TOLD_LAYERS = 100
const layerProgressSchema = z.object({
  digest,
  size: z.number().int().nonnegative(),
  bytes: z.number().int().nonnegative().meta({ description: 'that have come' }),
  state: z.enum(['waiting', 'pulling', 'pulled', 'known']).meta({
    description: 'known: it was here already',
  }),
})
export type LayerProgress = z.infer<typeof layerProgressSchema>

export const jobSchema = z
  .object({
    id: uuid,
    kind: z.enum(JOB_KINDS),
    state: z.enum(JOB_STATES),
    step: z.string().meta({
      description:
        'what is being done, in a word or two: receiving, resolving, pulling, extracting, preparing, naming …; or what is waited for',
    }),
    bytes: z.number().int().nonnegative().meta({ description: 'bytes taken in so far' }),
    entries: z.number().int().nonnegative().meta({ description: 'archive entries read so far' }),
    total: z.number().int().nonnegative().optional().meta({ description: 'bytes to come in all, where known' }),
    container: z.string().optional().meta({ description: 'of a launch or a start: the id of its container' }),
    layers: z
      .array(layerProgressSchema)
      .max(MAX_TOLD_LAYERS)
      .optional()
      .meta({ description: 'of a pull: its layers, the largest first' }),
    createdAt: z.iso.datetime(),
    updatedAt: z.iso.datetime(),
    result: z.unknown().optional().meta({ description: 'of a completed job: what its request would have answered' }),
    error: z.object({ code: z.enum(ERROR_CODES), message: z.string() }).optional(),
  })
  .meta({ id: 'Job' })
export type JobView = z.infer<typeof jobSchema>
export type JobState = JobView['state']
export const jobListSchema = z
  .object({
    jobs: z.array(jobSchema).meta({ description: 'the newest first' }),
    next: nextOf(uuid, 'the time when the jobs were made, backwards'),
  })
  .meta({ id: 'JobList' })
export type JobList = z.infer<typeof jobListSchema>
export const jobListQuery = pageQuery(uuid, 'jobs')

export const jobQuery = z.object({
  job: uuid.optional().meta({ description: 'names the job beforehand; a used id is 409 job_exists' }),
  wait: flag(true).meta({ description: 'false: answer 202 with Location at once' }),
})
export const isTerminal = (state: JobState): boolean =>
  state === 'completed' || state === 'failed' || state === 'cancelled'
