import { StrataError } from '@strata/base'
import { isDigest, NOT_A_DIGEST, type Digest } from '@strata/oci'
import { keys, parseImageKey, type Found, type ImageKey } from '@strata/store'
import { z } from 'zod'
import {
  imageSchema,
  isPlain,
  MAX_LACKS,
  plainSchema,
  recordOf,
  type Image,
  type PlainManifest,
  type RecordedManifest,
} from './image.js'

const mark = z.string().min(1).max(32).optional()
/** Of an index's entry by digest: its children that the repository did not have (`Indexes`). */
const lacks = z.array(z.custom<Digest>(isDigest, NOT_A_DIGEST)).max(MAX_LACKS).optional()
/**
 * What a name stands for, and the id of the name's marks (`NameMarks`). A record that an older
 * version wrote has none until the storage service has given it some.
 */
export const nameRecordSchema = z.union([imageSchema.extend({ mark, lacks }), plainSchema.extend({ mark, lacks })])
export type NameRecord = z.infer<typeof nameRecordSchema>

/** One record below `images/`: a tag, or an entry by digest, and the image that it stands for. */
export interface NameEntry {
  readonly key: string
  readonly name: ImageKey
  readonly image: Image
  readonly found: Found<NameRecord>
  /** See `Indexes`. */
  readonly lacks?: readonly Digest[] | undefined
}

/** The same of a manifest that is not listed as an image. */
export interface PlainEntry {
  readonly key: string
  readonly name: ImageKey
  readonly manifest: PlainManifest
  readonly found: Found<NameRecord>
  readonly lacks?: readonly Digest[] | undefined
}

/** A name whose record cannot be read. It stands for an image, and nobody can tell for which. */
export interface DamagedName {
  readonly key: string
  readonly name: ImageKey
  /** To retire it as it is. */
  readonly found: Found<NameRecord>
  readonly damage: StrataError
}

/** A name as a walk over all of them finds it. */
export type AnyName = NameEntry | PlainEntry | DamagedName

export function manifestIn(record: NameRecord): RecordedManifest {
  const manifest = { ...record }
  delete manifest.mark
  delete manifest.lacks
  return manifest
}

export function entryOf(
  key: string,
  name: ImageKey,
  found: Found<NameRecord>,
  value: NameRecord,
): NameEntry | PlainEntry {
  const manifest = manifestIn(value)
  const { lacks } = value
  return isPlain(manifest) ? { key, name, manifest, found, lacks } : { key, name, image: manifest, found, lacks }
}

export function digestIn(entry: NameEntry | PlainEntry): Digest {
  return recordOf(entry).digest
}

export function mayBeOf(entry: AnyName, digest: Digest): boolean {
  return 'damage' in entry || digestIn(entry) === digest
}

export function keyOfImageKey(name: ImageKey, digest: Digest): string {
  return name.tag === undefined ? keys.imageDigest(name.repository, digest) : keys.tag(name.repository, name.tag)
}

export function expectImageKey(key: string): ImageKey {
  const name = parseImageKey(key)
  if (!name) throw new StrataError('internal', `${key} is not the key of an image's name`)
  return name
}
