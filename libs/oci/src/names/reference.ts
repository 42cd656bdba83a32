import { isDigest, NOT_A_DIGEST, type Digest } from './digest.js'
import { StrataError } from '@strata/base'

/**
 * A name as docker normalises it: `fx/odd:3` is `docker.io/fx/odd:3`, `busybox` is
 * `docker.io/library/busybox:latest`, `localhost/x` stays. `repository` is always the full form
 * with its domain. Grammar: distribution's reference package, distribution-spec "Pulling
 * manifests".
 */
export interface Reference {
  readonly repository: Repository
  readonly tag: Tag | undefined
  readonly digest: Digest | undefined
}
/**
 * `docker.io/library/busybox`: a domain and at least one path component; safe as part of an object
 * key.
 */
export type Repository = string & { readonly __brand: 'Repository' }
export type Tag = string & { readonly __brand: 'Tag' }

const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/
const DOMAIN =
  /^(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*(?::[0-9]{1,5})?$/
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/

function invalid(text: string, why: string): StrataError {
  return new StrataError('name_invalid', `${JSON.stringify(text.slice(0, 300))} is not an image name: ${why}`)
}

/**
 * The reference as written, without a tag made up. `parseReference('a')` has neither tag nor
 * digest.
 */
export function parseReference(input: string): Reference {
  let rest = input
  let digest: Digest | undefined
  const at = rest.indexOf('@')
  if (at >= 0) {
    const text = rest.slice(at + 1)
    if (!isDigest(text)) throw invalid(input, `its digest is ${NOT_A_DIGEST}`)
    digest = text
    rest = rest.slice(0, at)
  }
  let tag: string | undefined
  const colon = rest.lastIndexOf(':')
  if (colon > rest.lastIndexOf('/')) {
    tag = rest.slice(colon + 1)
    if (!TAG.test(tag)) throw invalid(input, 'its tag has forbidden characters or more than 128')
    rest = rest.slice(0, colon)
  }
  const slash = rest.indexOf('/')
  const first = slash < 0 ? '' : rest.slice(0, slash)
  const hasDomain =
    slash > 0 && (first.includes('.') || first.includes(':') || first === 'localhost' || first !== first.toLowerCase())
  let domain = hasDomain ? first : 'docker.io'
  let path = hasDomain ? rest.slice(slash + 1) : rest
  if (domain === 'index.docker.io') domain = 'docker.io'
  if (domain === 'docker.io' && !path.includes('/')) path = `library/${path}`
  if (!DOMAIN.test(domain)) throw invalid(input, 'its domain is not a host name')
  if (!path.split('/').every((part) => COMPONENT.test(part)))
    throw invalid(input, 'its path must be lower-case letters, digits and separators')
  const repository = `${domain}/${path}`
  if (repository.length > 255) throw invalid(input, 'it has more than 255 characters')
  return { repository: repository as Repository, tag: tag as Tag | undefined, digest }
}

/**
 * As `parseReference`, but a name with neither tag nor digest gets `latest`, as docker's commands
 * do.
 */
export function parseTagged(input: string): Reference {
  const reference = parseReference(input)
  return reference.tag || reference.digest ? reference : { ...reference, tag: 'latest' as Tag }
}

/** The full form: `docker.io/fx/odd:3`. */
export function formatReference(reference: Reference): string {
  return (
    reference.repository + (reference.tag ? `:${reference.tag}` : '') + (reference.digest ? `@${reference.digest}` : '')
  )
}

/** The short form people use: `fx/odd:3`, `busybox:latest`; other domains stay. */
export function familiarReference(reference: Reference): string {
  return formatReference({ ...reference, repository: familiarRepository(reference.repository) as Repository })
}

function familiarRepository(repository: Repository): string {
  return repository.replace(/^docker\.io\/(?:library\/(?=[^/]*$))?/, '')
}
