import { z } from 'zod'

/** Of a manifest or index that is marked as deprecated: from this day on, or at once. */
export const deprecationSchema = z.object({
  /** In UTC. */
  endOfLife: z
    .string()
    .regex(/^\d{4}-\d{2}-\d{2}$/)
    .optional(),
})
export type Deprecation = z.infer<typeof deprecationSchema>

/** Artifact Hub's, of images and charts: `true`, as Go parses it. */
const DEPRECATED = 'io.artifacthub.package.deprecated'
/** Of the Microsoft Artifact Registry: a day, or a time of RFC 3339. */
const END_OF_LIFE = 'vnd.microsoft.artifact.lifecycle.end-of-life.date'

/**
 * What a manifest's own annotations say. The specifications have no annotation for it, so these are
 * the two that the field writes (decision 90). A value of neither form is ignored: it is no reason
 * to refuse a manifest.
 */
export function deprecationOf(
  annotations: Readonly<Record<string, string>> | null | undefined,
): Deprecation | undefined {
  if (/^(?:1|t|true)$/i.test(annotations?.[DEPRECATED] ?? '')) return {}
  const day = /^(\d{4}-\d{2}-\d{2})(?:T|$)/.exec(annotations?.[END_OF_LIFE] ?? '')?.[1]
  return day === undefined || Number.isNaN(Date.parse(day)) ? undefined : { endOfLife: day }
}
