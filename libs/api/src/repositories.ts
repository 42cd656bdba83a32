import { z } from 'zod'
import { digest, text } from './common.js'
import { nextOf, pageQuery } from './page.js'

/*
 * What the registry has (`/v2/`), for the clients of `/v1`. An image is a view on it: a repository
 * also has what cannot be launched (charts, signatures, indexes of such).
 */

const tagName = z.string().regex(/^\w[\w.-]{0,127}$/, 'not a tag')
/** Of a repository: short for docker.io's, in full for those of other hosts. */
export const repositoryName = z.string().min(1).max(255)

export const repositoryListQuery = pageQuery(repositoryName, 'repositories')
export const repositoryListSchema = z
  .object({
    repositories: z.array(
      z.object({ name: repositoryName.meta({ description: 'short for docker.io, as in the list of images' }) }),
    ),
    next: nextOf(repositoryName, 'the order of the full names, in which `app` is docker.io/library/app'),
  })
  .meta({ id: 'RepositoryList' })
export type RepositoryList = z.infer<typeof repositoryListSchema>

export const tagListQuery = pageQuery(tagName, 'tags')
export const tagListSchema = z
  .object({
    repository: repositoryName,
    tags: z.array(z.object({ name: tagName })),
    next: nextOf(tagName, 'the order of the tags’ bytes'),
  })
  .meta({ id: 'TagList' })
export type TagList = z.infer<typeof tagListSchema>

const referrerSchema = z.object({
  digest,
  mediaType: z.string(),
  size: z.number().int().meta({ description: 'bytes of the manifest' }),
  artifactType: z.string().optional(),
  annotations: z.record(z.string(), z.string()),
})
export const referrerListQuery = pageQuery(digest, 'referrers').extend({
  artifactType: text(256).optional().meta({ description: 'only those of this type; a page may then have fewer' }),
})
export const referrerListSchema = z
  .object({
    subject: digest,
    referrers: z.array(referrerSchema),
    next: nextOf(digest, 'the order of the digests'),
  })
  .meta({ id: 'ReferrerList' })
export type ReferrerList = z.infer<typeof referrerListSchema>
