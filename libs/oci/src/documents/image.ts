import { z } from 'zod'
import { isDiffId, isDigest, NOT_A_DIGEST, type Digest, type DiffId } from '../names/digest.js'
import { StrataError, type ErrorCode } from '@strata/base'
import { isNonDistributable } from '../names/media-types.js'
import { DOCUMENT_LIMITS, readJson } from './json.js'

/**
 * JSON of an image is hostile: unknown fields are kept out, sizes bounded, digests checked by their
 * grammar.
 */
const digest = z.custom<Digest>(isDigest, NOT_A_DIGEST)
const diffId = z.custom<DiffId>(isDiffId, 'not a sha256 digest')
/** `int` takes those only that a number holds exactly. */
const size = z.number().int({ abort: true }).nonnegative({ abort: true })
/** A list has its bound before its parts are looked at: each part may have several issues. */
const listOf = <T extends z.ZodType>(part: T, most: number) => z.array(z.unknown()).max(most).pipe(z.array(part))
/**
 * Texts by name: annotations, labels. `z.record` makes an issue for each value that is no text,
 * also with `abortEarly`.
 */
export const textsSchema = z.custom<Record<string, string>>(
  (value) =>
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every((text) => typeof text === 'string'),
  'not an object whose values are texts',
)
const texts = textsSchema.nullish().transform((value) => value ?? {})
const strings = z.array(z.string())
/** Go writes a nil slice or map as null, so every list and map may be null. */
const list = strings.nullish().transform((value) => value ?? undefined)
const set = z
  .record(z.string(), z.unknown())
  .nullish()
  .transform((value) => (value ? Object.keys(value) : []))

const descriptorSchema = z.object({
  mediaType: z.string().optional(),
  digest,
  size,
  annotations: texts,
  /** Where else its bytes are. Only whether there is one matters. */
  urls: z.array(z.unknown()).nullish().catch(undefined),
  platform: z.object({ architecture: z.string(), os: z.string(), variant: z.string().optional() }).nullish(),
})
/** image-spec, descriptor.md. */
export type Descriptor = z.infer<typeof descriptorSchema>

/**
 * Whether the descriptor of a layer says that its bytes are somewhere else: that they may not be
 * given on, or at which addresses they are. Clients leave such layers out of a push.
 */
export function isElsewhere({ mediaType, urls }: Pick<Descriptor, 'mediaType' | 'urls'>): boolean {
  return isNonDistributable(mediaType) || (urls ?? []).length > 0
}

export const manifestSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  config: descriptorSchema,
  // Manifests of artifacts leave it out, or have null: Go writes a nil slice so.
  layers: listOf(descriptorSchema, 10_000)
    .nullish()
    .transform((value) => value ?? []),
  /** The manifest that this one is attached to. */
  subject: descriptorSchema.nullish().catch(undefined),
  annotations: textsSchema.nullish().catch(undefined),
  // A body that is both manifest and index is neither (CVE-2021-41190).
  manifests: z.undefined().optional(),
})
/** image-spec, manifest.md. */
export type Manifest = z.infer<typeof manifestSchema>

export const indexSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.string().optional(),
  manifests: listOf(descriptorSchema, 10_000),
  layers: z.undefined().optional(),
  config: z.undefined().optional(),
})
/** image-spec, image-index.md. */
export type Index = z.infer<typeof indexSchema>

/** Either: what a name may stand for. */
export const documentSchema = z.union([manifestSchema, indexSchema])

const text = z
  .string()
  .nullish()
  .transform((value) => value ?? '')
export const imageConfigSchema = z.object({
  architecture: text,
  os: text,
  variant: z.string().nullish(),
  created: z.string().nullish(),
  author: z.string().nullish(),
  config: z
    .object({
      User: text,
      ExposedPorts: set,
      Env: list,
      Entrypoint: list,
      Cmd: list,
      Volumes: set,
      WorkingDir: text,
      Labels: texts,
      StopSignal: text,
      Hostname: text,
    })
    .nullish(),
  rootfs: z.object({ type: z.literal('layers'), diff_ids: listOf(diffId, 10_000).nullish() }),
  history: listOf(
    z.object({ created: z.string().nullish(), created_by: text, comment: text, empty_layer: z.boolean().nullish() }),
    100_000,
  ).nullish(),
})
/**
 * image-spec, config.md, as far as Strata uses it. The bytes as received are what is kept; this is
 * only read.
 */
export type ImageConfig = z.infer<typeof imageConfigSchema>

/** An image's JSON may not be larger than this (docs/architecture.md, "Trust"). */
export const MAX_JSON_BYTES = 4 * 1024 * 1024

/**
 * Of what is wrong only the first issue is told, and a hostile document has one for each of its
 * parts. zod has this option among its internals only; a test counts the issues.
 */
export const ONE_ISSUE: z.core.ParseContextInternal<z.core.$ZodIssue> = { abortEarly: true }

/**
 * JSON bytes against a schema. Too large, too deep, too many parts: `limit_exceeded`; not JSON, or
 * not of the shape: an error of `code`. Each names `what`.
 */
export function parseJson<T>(
  schema: z.ZodType<T>,
  bytes: Uint8Array,
  what: string,
  code: ErrorCode = 'archive_invalid',
): T {
  if (bytes.length > MAX_JSON_BYTES)
    throw new StrataError(
      'limit_exceeded',
      `${what} has ${bytes.length} bytes; the limit for JSON is ${MAX_JSON_BYTES}`,
    )
  let value: unknown
  try {
    value = readJson(bytes, what, DOCUMENT_LIMITS)
  } catch (error) {
    if (error instanceof StrataError) throw error
    throw new StrataError(code, `${what} is not JSON`)
  }
  const result = schema.safeParse(value, ONE_ISSUE)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw new StrataError(
    code,
    `${what} is not valid: ${issue?.path.join('.') || 'it'}: ${issue?.message ?? 'unknown'}`,
    { cause: result.error },
  )
}

export function diffIdsOf(config: ImageConfig): DiffId[] {
  return config.rootfs.diff_ids ?? []
}
