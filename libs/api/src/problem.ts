import { ERROR_CODES } from '@strata/base'
import { z } from 'zod'

/**
 * Every error answer: `application/problem+json` (RFC 9457) with a stable `code`. `detail` is one
 * clear sentence.
 */
export const problemSchema = z
  .object({
    type: z.literal('about:blank'),
    title: z.string(),
    status: z.number().int(),
    code: z.enum(ERROR_CODES),
    detail: z.string(),
  })
  .meta({ id: 'Problem' })
export type Problem = z.infer<typeof problemSchema>
