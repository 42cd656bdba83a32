import { randomUUID } from 'node:crypto'
import { StrataError } from '@strata/base'
import {
  algorithmOf,
  digestFromHex,
  hexOf,
  isDigest,
  NOT_A_DIGEST,
  parseReference,
  type Digest,
  type DiffId,
  type Reference,
  type Repository,
  type Tag,
} from '@strata/oci'

/**
 * Every key of the store, in one place.
 * ```
 * data/<lease>/<name>                bytes, written once under a fresh id
 * uploads/<lease>                    record: a lease. Its owner, and what has arrived
 * used/<request>                     a mark: a lease has had that request, and which lease
 * blobs/<algorithm>/<hex>            record: where a blob's bytes are, which leases hold it
 * index/v1/<hex>                     a layer's index, by diffID
 * checkpoints/v2/<hex>               places from which a packed layer can be unpacked, by its blob
 * images/<repository>/_tags/<tag>    record: a name
 * images/<repository>/_digests/<hex> record: a manifest of it, by its digest
 * images/_digests/<hex>              the same for an image that never had a name
 * image-names/digests/<aa>/<bb>/<rest>/tags/<repository>/<tag>~<mark>
 *                                    a name mark: that name may stand for the manifest of that digest
 * image-names/digests/<aa>/<bb>/<rest>/untagged/[<repository>/]~<mark>
 *                                    the same of an entry by digest
 * image-names/ids/<aa>/<bb>/<rest>/<hex>~<mark>
 *                                    an id mark: the image of that id may have that manifest
 * image-names/artifacts/<aa>/<bb>/<rest>/…
 *                                    name marks of manifests that are no image, in the same two forms
 * image-names/parents/<aa>/<bb>/<rest>/<repository>/_/<hex>~<mark>
 *                                    a parent mark: that index of the repository may have the manifest
 * image-names/subjects/<aa>/<bb>/<rest>/<repository>/_/<hex>~<mark>
 *                                    a subject mark: that manifest of the repository may refer to the subject
 * image-names/_all                   every name has its marks (written once for an older store)
 * repositories/names/<repository>    record: a repository is there; its slashes are commas here
 * repositories/blobs/<repository>/_/<hex>
 *                                    record: that repository has that blob, and which leases count on it
 * repositories/_all                  every tag has its manifest's record (written once for an older store)
 * repositories/indexes/_all          every index's record names all below it (written once for an older store)
 * nodes/<id>                         record: a node that was removed and is not to come back
 * version                            s3 only, record: which version the data have
 * migrating                          s3 only, record: which process migrates them
 * partial/<key>                      s3 only, never listed: bytes are being put under that key
 * probe/<uuid>                       s3 only, never listed: a start tries the server with it
 * ```
 * A repository is written as it is, slashes too, as registries do. No component of one can begin
 * with `_` (its grammar: @strata/oci, reference.ts), so `_tags` and `_digests` say where it ends,
 * and `a` with a component named `tags` below it cannot be mistaken for `a`'s tags.
 *
 * `<aa>/<bb>/<rest>` are the hex digits of a digest. The two levels keep a folder store's folders
 * small; the order of the keys is the order of the digits.
 */
export const keys = {
  data: (lease: string, name: string) => `data/${checkLeaseId(lease)}/${checkSegment(name)}`,
  /** All bytes of one lease. */
  dataOf: (lease: string) => `data/${checkLeaseId(lease)}/`,
  lease: (lease: string) => `uploads/${checkLeaseId(lease)}`,
  usedId: (request: string) => `used/${checkLeaseId(request)}`,
  /** No request's id begins with `_`, so this is the mark of no request. */
  allUsedMarked: 'used/_all',
  version: 'version',
  migrating: 'migrating',
  blob: (digest: Digest) => `blobs/${algorithmOf(digest)}/${checkedHex(digest)}`,
  index: (diffId: DiffId) => `index/v1/${checkedHex(diffId)}`,
  checkpoints: (digest: Digest) => `checkpoints/v2/${checkedHex(digest)}`,
  removedNode: (id: string) => `nodes/${checkSegment(id)}`,
  tag: (repository: Repository, tag: Tag) => `${imagesOf(repository)}_tags/${checkSegment(tag)}`,
  imageDigest: (repository: Repository | undefined, digest: Digest) =>
    `${imagesOf(repository)}_digests/${checkedHex(digest)}`,
  /** `mark` is fresh for each write of the name. */
  nameMark: (digest: Digest, name: ImageKey, mark: string) =>
    `${keys.nameMarksOf(digest)}${
      name.tag === undefined
        ? `untagged/${name.repository === undefined ? '' : `${checkRepository(name.repository)}/`}`
        : `tags/${checkRepository(name.repository)}/${checkSegment(name.tag)}`
    }~${checkSegment(mark)}`,
  idMark: (id: Digest, digest: Digest, mark: string) =>
    `${keys.idMarksOf(id)}${checkedHex(digest)}~${checkSegment(mark)}`,
  /** All name marks of a manifest; those of tags come first. */
  nameMarksOf: (digest: Digest) => `${PREFIX.nameMarks}${fanOut(checkedHex(digest))}/`,
  /** All marks of an id. */
  idMarksOf: (id: Digest) => `${PREFIX.idMarks}${fanOut(checkedHex(id))}/`,
  /** The marks of all ids whose hex digits begin like this. */
  idMarksWith: (hexPrefix: string) => `${PREFIX.idMarks}${fanOut(checkSegment(hexPrefix))}`,
  allNamesMarked: 'image-names/_all',
  /** As `nameMark`, of a manifest that is no image. */
  artifactMark: (digest: Digest, name: ImageKey, mark: string) =>
    keys.nameMark(digest, name, mark).replace(PREFIX.nameMarks, PREFIX.artifactMarks),
  /** `parent` is an index of the repository that may have the manifest `digest`. */
  parentMark: (digest: Digest, repository: Repository, parent: Digest, mark: string) =>
    `${keys.parentMarksOf(digest, repository)}${checkedHex(parent)}~${checkSegment(mark)}`,
  parentMarksOf: (digest: Digest, repository: Repository) =>
    `${PREFIX.parentMarks}${fanOut(checkedHex(digest))}/${checkRepository(repository)}/_/`,
  /** `referrer` is a manifest of the repository that may have the subject. */
  subjectMark: (subject: Digest, repository: Repository, referrer: Digest, mark: string) =>
    `${keys.subjectMarksOf(subject, repository)}${checkedHex(referrer)}~${checkSegment(mark)}`,
  subjectMarksOf: (subject: Digest, repository: Repository) =>
    `${PREFIX.subjectMarks}${fanOut(checkedHex(subject))}/${checkRepository(repository)}/_/`,
  /** All tags of a repository. */
  tagsOf: (repository: Repository) => `${imagesOf(repository)}_tags/`,
  /** All manifests of a repository. */
  manifestsOf: (repository: Repository) => `${imagesOf(repository)}_digests/`,
  repositoryBlob: (repository: Repository, digest: Digest) =>
    `${keys.repositoryBlobsOf(repository)}${checkedHex(digest)}`,
  repositoryBlobsOf: (repository: Repository) => `${PREFIX.repositoryBlobs}${checkRepository(repository)}/_/`,
  /**
   * One segment, so that `a` and `a/b` can both be there. A comma sorts before all that a component
   * can have: `a` and all that lies below it come before `a-b`.
   */
  repository: (repository: Repository) => `${PREFIX.repositories}${checkRepository(repository).replaceAll('/', ',')}`,
  allManifestsKept: 'repositories/_all',
  allIndexesFollowed: 'repositories/indexes/_all',
} as const

/** Prefixes to list. */
export const PREFIX = {
  data: 'data/',
  leases: 'uploads/',
  used: 'used/',
  blobs: 'blobs/',
  indexes: 'index/v1/',
  checkpoints: 'checkpoints/v2/',
  images: 'images/',
  nameMarks: 'image-names/digests/',
  idMarks: 'image-names/ids/',
  artifactMarks: 'image-names/artifacts/',
  parentMarks: 'image-names/parents/',
  subjectMarks: 'image-names/subjects/',
  repositories: 'repositories/names/',
  repositoryBlobs: 'repositories/blobs/',
} as const

/**
 * The name below `data/<lease>/` of the object that says what an import makes of its tree
 * (`TreeImage` of `@strata/images`).
 */
export const RECIPE_NAME = 'recipe'

/**
 * A key below `data/` that no other write uses. Two runs of one job may work at the same time: each
 * of them writes under keys of its own.
 */
export function freshDataKey(lease: string): string {
  return keys.data(lease, randomUUID())
}

/**
 * Keys of bytes that come one after the other, each under a number of its own. The caller sees to
 * it that no number of a lease is used twice.
 */
export function numberedDataKey(lease: string, number: number): string {
  return keys.data(lease, `chunk-${number}`)
}

/** The key whose number is greater by `by`. `undefined` for a key without a number. */
export function laterDataKey(key: string, by: number): string | undefined {
  const [, beginning, number] = /^(data\/[^/]+\/chunk-)(\d{1,9})$/.exec(key) ?? []
  return beginning === undefined ? undefined : `${beginning}${Number(number) + by}`
}

/** What a key below `images/` says. Exactly one of `tag` and `digest` is there. */
export type ImageKey =
  | { readonly repository: Repository; readonly tag: Tag; readonly digest: undefined }
  | { readonly repository: Repository | undefined; readonly tag: undefined; readonly digest: Digest }

/** The reverse of `keys.tag` and `keys.imageDigest`. `undefined` for a key that neither makes. */
export function parseImageKey(key: string): ImageKey | undefined {
  const parts: (string | undefined)[] = /^images\/(?:(.+)\/)?_(tags|digests)\/([^/]+)$/.exec(key) ?? []
  const [, repository, kind, last] = parts
  if (last === undefined) return undefined
  try {
    if (kind === 'digests')
      return {
        repository: repository === undefined ? undefined : checkRepository(repository as Repository),
        tag: undefined,
        digest: digestFromHex(last),
      }
    if (repository === undefined) return undefined
    const reference = parseReference(`${repository}:${last}`)
    return reference.repository === repository && reference.tag
      ? { repository: reference.repository, tag: reference.tag, digest: undefined }
      : undefined
  } catch {
    return undefined
  }
}

/**
 * What a name mark's key says. `undefined` for a key that neither `keys.nameMark` nor
 * `keys.artifactMark` makes.
 */
export function parseNameMark(
  key: string,
): { readonly digest: Digest; readonly name: ImageKey; readonly mark: string } | undefined {
  const parts: (string | undefined)[] =
    /^image-names\/(?:digests|artifacts)\/(..)\/(..)\/([0-9a-f]+)\/(?:tags\/(.+)\/([^/~]+)|untagged\/(?:(.+)\/)?)~([^/~]+)$/.exec(
      key,
    ) ?? []
  const [, a, b, rest, tagged, tag, untagged, mark] = parts
  const hex = `${a ?? ''}${b ?? ''}${rest ?? ''}`
  const name = parseImageKey(
    tag === undefined
      ? `${PREFIX.images}${untagged === undefined ? '' : `${untagged}/`}_digests/${hex}`
      : `${PREFIX.images}${tagged ?? ''}/_tags/${tag}`,
  )
  const digest = digestIn(hex)
  return name && digest && mark !== undefined ? { digest, name, mark } : undefined
}

/** What an id mark's key says. `undefined` for a key that `keys.idMark` does not make. */
export function parseIdMark(
  key: string,
): { readonly id: Digest; readonly digest: Digest; readonly mark: string } | undefined {
  const parts: (string | undefined)[] =
    /^image-names\/ids\/(..)\/(..)\/([0-9a-f]+)\/([0-9a-f]+)~([^/~]+)$/.exec(key) ?? []
  const [, a, b, rest, hex, mark] = parts
  const [id, digest] = [digestIn(`${a ?? ''}${b ?? ''}${rest ?? ''}`), digestIn(hex ?? '')]
  return id && digest && mark !== undefined ? { id, digest, mark } : undefined
}

/** The manifest and the mark's id at the end of the key of a parent mark or a subject mark. */
export function parseRelationMark(key: string): { readonly digest: Digest; readonly mark: string } | undefined {
  const parts: (string | undefined)[] =
    /^image-names\/(?:parents|subjects)\/..\/..\/[0-9a-f]+\/.+\/_\/([0-9a-f]+)~([^/~]+)$/.exec(key) ?? []
  const [, hex, mark] = parts
  const digest = digestIn(hex ?? '')
  return digest && mark !== undefined ? { digest, mark } : undefined
}

/** The reverse of `keys.repository`. `undefined` for a key that it does not make. */
export function parseRepositoryKey(key: string): Repository | undefined {
  const text = key.startsWith(PREFIX.repositories) ? key.slice(PREFIX.repositories.length).replaceAll(',', '/') : ''
  return repositoryIn(text)
}

/** The reverse of `keys.repositoryBlob`. `undefined` for a key that it does not make. */
export function parseRepositoryBlobKey(
  key: string,
): { readonly repository: Repository; readonly digest: Digest } | undefined {
  const parts: (string | undefined)[] = /^repositories\/blobs\/(.+)\/_\/([0-9a-f]+)$/.exec(key) ?? []
  const [repository, digest] = [repositoryIn(parts[1] ?? ''), digestIn(parts[2] ?? '')]
  return repository && digest ? { repository, digest } : undefined
}

function repositoryIn(text: string): Repository | undefined {
  try {
    return checkRepository(text as Repository)
  } catch {
    return undefined
  }
}

function digestIn(hex: string): Digest | undefined {
  return /^(?:[0-9a-f]{64}){1,2}$/.test(hex) ? digestFromHex(hex) : undefined
}

/** The path `<aa>/<bb>/<rest>` of hex digits, or of the first of them. */
function fanOut(hex: string): string {
  return [hex.slice(0, 2), hex.slice(2, 4), hex.slice(4)].filter(Boolean).join('/')
}

/** The digest in a key of `blobs/`, `index/` or `checkpoints/`; `undefined` for any other key. */
export function digestInKey(key: string): Digest | undefined {
  const hex =
    /^(?:blobs\/sha256\/(?=.{64}$)|blobs\/sha512\/(?=.{128}$)|index\/v1\/(?=.{64}$)|checkpoints\/v2\/)((?:[0-9a-f]{64}){1,2})$/.exec(
      key,
    )?.[1]
  return hex === undefined ? undefined : digestFromHex(hex)
}

/** The lease that a `data/` or `uploads/` key belongs to. */
export function leaseInKey(key: string): string | undefined {
  return /^(?:data\/([^/]+)\/[^/]+|uploads\/([^/]+))$/.exec(key)?.slice(1).find(Boolean)
}

const SEGMENT = /^[A-Za-z0-9._:@+=,!'()*~-]{1,255}$/
const PARTIAL = /^[A-Za-z0-9._:@+=,!'()*~-]{0,255}$/
const MAX_KEY = 1024

/** A cast can give `undefined` the type of a name, and `SEGMENT` would take it as a text. */
function isSegment(text: unknown): boolean {
  return typeof text === 'string' && SEGMENT.test(text) && text !== '.' && text !== '..'
}

/**
 * A key is segments joined by `/`, at most 1,024 characters: each of 1 to 255 letters, digits and
 * `._:@+=,!'()*~-`, none of them `.` or `..`. So a key is a relative path that stays below its
 * root, has the same bytes in a folder, a URL's path and an S3 request, and sorts alike everywhere.
 * @throws StrataError `bad_request`
 */
export function checkKey(key: string): string {
  if (key.length > MAX_KEY || !key.split('/').every(isSegment))
    throw new StrataError('bad_request', `${JSON.stringify(key.slice(0, 200))} cannot be an object's key`)
  return key
}

/**
 * Checks a text that may begin a key: whole segments, then possibly the beginning of one.
 * @throws StrataError `bad_request`
 */
export function checkPrefix(prefix: string): string {
  const segments = prefix.split('/')
  const last = segments.pop() ?? ''
  if (prefix.length > MAX_KEY || !segments.every(isSegment) || !PARTIAL.test(last))
    throw new StrataError('bad_request', `${JSON.stringify(prefix.slice(0, 200))} cannot begin an object's key`)
  return prefix
}

/**
 * A lease's id, or that of its request. A client may have chosen the latter, and in older versions
 * both, so they are checked.
 */
function checkLeaseId(id: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(id))
    throw new StrataError(
      'bad_request',
      `${JSON.stringify(id.slice(0, 100))} cannot be an upload's id: 1 to 64 letters, digits, - and _`,
    )
  return id
}

function checkSegment(text: string): string {
  const given: unknown = text
  if (!isSegment(given))
    throw new StrataError(
      'bad_request',
      `${JSON.stringify(String(given).slice(0, 200))} cannot be part of an object's key`,
    )
  return text
}

/**
 * A cast can give any text the type `Digest`. Such a text is refused here, before it becomes part
 * of a path.
 */
function checkedHex(digest: Digest): string {
  if (!isDigest(digest))
    throw new StrataError('bad_request', `${JSON.stringify(String(digest).slice(0, 150))} is ${NOT_A_DIGEST}`)
  return hexOf(digest)
}

function checkRepository(repository: Repository): Repository {
  const reference: Reference = parseReference(repository)
  if (reference.repository !== repository || reference.tag || reference.digest)
    throw new StrataError('name_invalid', `${JSON.stringify(repository)} is not a repository's full name`)
  return repository
}

function imagesOf(repository: Repository | undefined): string {
  return repository === undefined ? PREFIX.images : `${PREFIX.images}${checkRepository(repository)}/`
}
