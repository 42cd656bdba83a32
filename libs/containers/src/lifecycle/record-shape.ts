import { ERROR_CODES } from '@strata/base'
import { z } from 'zod'
import type { ContainerRecord } from '../container.js'

const created = z.object({ status: z.literal('created') })
const exited = z.object({
  status: z.literal('exited'),
  code: z.number().int(),
  startedAt: z.string().optional(),
  finishedAt: z.string(),
  reason: z.string().optional(),
  error: z.enum(ERROR_CODES).optional(),
})
const state = z.discriminatedUnion('status', [
  created,
  z.object({ status: z.literal('running'), pid: z.number().int().positive(), startedAt: z.string() }),
  exited,
])
const count = z.number().int().nonnegative()
const place = z.object({ number: count, offset: count })

/**
 * What all that reads a record relies on. Members that it does not name may be there: a newer
 * version wrote them.
 */
const shape = z.object({
  version: z.literal(1),
  id: z.string(),
  createdAt: z.string(),
  starts: count,
  bootId: z.string().optional(),
  name: z.string().optional(),
  image: z.object({
    name: z.string(),
    id: z.string(),
    chainId: z.string(),
    layers: z.array(z.string()).optional(),
    config: z.object({}).nullish(),
  }),
  request: z.object({
    entrypoint: z.array(z.string()).optional(),
    command: z.array(z.string()).optional(),
    env: z.array(z.string()).optional(),
    workdir: z.string().optional(),
    user: z.string().optional(),
    hostname: z.string().optional(),
    network: z.enum(['none', 'host']).optional(),
    readOnly: z.boolean().optional(),
  }),
  autoRemove: z.boolean().optional(),
  attached: z.boolean().optional(),
  job: z.string().optional(),
  startedApart: z.boolean().optional(),
  state,
  idle: z
    .object({
      state: z.discriminatedUnion('status', [created, exited]),
      starts: count,
      output: place.optional(),
      attached: z.boolean().optional(),
    })
    .optional(),
  output: place.optional(),
})

/** Whether a JSON value is the record of container `id`. */
export function isContainerRecord(value: unknown, id: string): value is ContainerRecord {
  const result = shape.safeParse(value)
  return result.success && result.data.id === id
}
