import { DIGEST, NOT_A_DIGEST, PLATFORM, type ChainId, type DiffId, type Digest } from '@strata/oci'
import { z } from 'zod'

/** As a pattern, not as a function: the API's description is made from it. */
const sha256 = <T extends Digest>(description: string) =>
  z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/, 'not a sha256 digest')
    .meta({ description }) as unknown as z.ZodType<T, T>
export const digest = z
  .string()
  .regex(new RegExp(`^${DIGEST}$`), NOT_A_DIGEST)
  .meta({ description: 'sha256:<64 hex digits>, or sha512:<128>' }) as unknown as z.ZodType<Digest, Digest>
export const diffId = sha256<DiffId>("digest of the layer's uncompressed tar")
export const chainId = sha256<ChainId>('identity of this layer on those below it')

export const platform = z.string().regex(PLATFORM, 'not os/arch or os/arch/variant, as linux/arm64')

/** A flag in a query: `?force`, `?force=1|0|true|false`; `undefined` where it is not there. */
export const optionalFlag = () =>
  z
    .enum(['', '1', '0', 'true', 'false'])
    .optional()
    .transform((value) => (value === undefined ? undefined : value !== '0' && value !== 'false'))
    .meta({ type: 'boolean' })
/** The same with what its absence means. */
export const flag = (fallback: boolean) =>
  optionalFlag()
    .transform((value) => value ?? fallback)
    .meta({ type: 'boolean', default: fallback })

export const uuid = z.uuid().meta({ description: 'an id that the client may choose' })
/**
 * Bytes of a JSON string as the machine stores it: no NUL, which no argument, name or variable can
 * hold.
 */
export const text = (max: number) =>
  z
    .string()
    .max(max)
    .refine((value) => !value.includes('\0'), 'holds a NUL')

/** A number of things, and their bytes. */
export const tally = z.object({ count: z.number().int().nonnegative(), bytes: z.number().int() })
