import { asCode, StrataError } from '@strata/base'
import {
  familiarReference,
  parseDigest,
  parseReference,
  parseTagged,
  type Digest,
  type Repository,
  type Tag,
} from '@strata/oci'

/**
 * The repository that a name under `/v2/` means. It is the one that the name means as the name of
 * an image everywhere else (decision 84).
 * @throws StrataError `name_invalid`
 */
export function repositoryOf(name: string): Repository {
  const { repository, tag, digest } = parseReference(name)
  if (tag ?? digest)
    throw new StrataError('name_invalid', `${JSON.stringify(name.slice(0, 300))} is not the name of a repository`)
  return repository
}

/** The name of a repository in a list: short for docker.io, as in `strata images`. */
export function nameOf(repository: Repository): string {
  return familiarReference({ repository, tag: undefined, digest: undefined })
}

/** What the last component of a manifest's path means: a tag, or a digest if it has a colon. */
export type ManifestReference = { readonly tag: Tag } | { readonly digest: Digest }

/**
 * The manifest that a whole name means: that of its digest if it has one, otherwise of its tag, and
 * without both of `latest`, as docker's commands read it.
 * @throws StrataError `name_invalid`
 */
export function namedManifest(text: string): {
  readonly repository: Repository
  readonly reference: ManifestReference
} {
  const { repository, tag, digest } = parseTagged(text)
  return { repository, reference: digest === undefined ? { tag: tag! } : { digest } }
}

/** @throws StrataError `digest_invalid`; `manifest_not_found` for what can be no tag */
export function manifestReferenceOf(last: string): ManifestReference {
  if (last.includes(':')) return { digest: digestIn(last) }
  try {
    return { tag: tagIn(last) }
  } catch (error) {
    throw asCode(error, { name_invalid: 'manifest_not_found' })
  }
}

/**
 * A text that is a tag, and nothing else: `5000/app` behind a colon would be a port and a path.
 * @throws StrataError `name_invalid`
 */
export function tagIn(text: string): Tag {
  const { tag, digest } = parseReference(`x:${text}`)
  if (tag === undefined || tag !== text || digest !== undefined)
    throw new StrataError('name_invalid', `${JSON.stringify(text.slice(0, 300))} is not a tag`)
  return tag
}

/** @throws StrataError `digest_invalid` */
export function digestIn(text: string): Digest {
  try {
    return parseDigest(text)
  } catch (error) {
    throw asCode(error, { bad_request: 'digest_invalid' })
  }
}
