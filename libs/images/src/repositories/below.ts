import { atMost, StrataError } from '@strata/base'
import {
  documentSchema,
  formatPlatform,
  isManifestType,
  MAX_JSON_BYTES,
  parseJson,
  type Descriptor,
  type Digest,
  type Platform,
} from '@strata/oci'
import type { BlobStore } from '@strata/store'
import type { z } from 'zod'
import { MAX_PARTS, MAX_SUBJECTS, type Whole } from '../image.js'
import { MayLack } from '../may-lack.js'
import { isOfOneManifest } from './stops.js'

/** Children that are asked for at the same time: some 4 small store calls each. */
const LOOKS_AT_ONCE = 16
/** Children that are read, and held in memory, at the same time. Each has at most 4 MiB. */
const READS_AT_ONCE = 4

/** Everything below an index: what it names, and what the indexes among that name. */
export interface Below {
  /**
   * Those that the repository has, the index's own children first. Only own children that are
   * images have a platform. The first `MAX_SUBJECTS` with a subject name it: as parts of the index
   * they stay in the list of the subject's referrers after their own records have ended.
   */
  readonly parts: Whole['parts']
  /** Those that the repository does not have, or that cannot be read. */
  readonly lacks: readonly Digest[]
  /** Bytes of the layers of the images among `parts`, each layer once. */
  readonly size: number
}

/** How `lookBelow` sees the store and the repository. */
export interface Sight {
  readonly blobs: BlobStore
  /** Whether the repository has the manifest. */
  readonly has: (digest: Digest) => Promise<boolean>
  /** Holds these blobs. `false`: one of them is not in the store. */
  readonly hold: (digests: readonly Digest[]) => Promise<boolean>
  /** Whether any layer may be missing. */
  readonly takesSparse: boolean
}

/**
 * Looks at everything below an index, level by level. Reads each manifest once.
 *
 * The record of an index carries the result: parts and lacks. This is the only rule that protects a
 * child: the collector, `prune`, `rmi` and a dry run ask the index's record what the index needs.
 * So everything below is in it, not only the index's own children. A child that cannot be read, or
 * that lacks a blob, counts as absent: it must not take the others' protection. Layers that may be
 * missing (`MayLack`) are held if they are there.
 *
 * @throws StrataError `limit_exceeded` if there are more than `MAX_PARTS`: the record would not
 * name them all, so the rest would be without protection
 */
export async function lookBelow(index: Digest, children: readonly Descriptor[], sight: Sight): Promise<Below> {
  const parts = new Map<Digest, Whole['parts'][number]>()
  const lacks: Digest[] = []
  const layers = new Map<Digest, number>()
  const seen = new Set<Digest>([index])
  /**
   * Adds what was not seen yet. Counted as it comes: a level of 2,000 indexes may name millions,
   * which would all be held before the next level is looked at.
   */
  const add = (level: Map<Digest, Descriptor>, descriptors: readonly Descriptor[]): void => {
    for (const one of descriptors) {
      if (seen.has(one.digest) && !level.has(one.digest)) continue
      // Of several descriptors of one manifest the last counts.
      level.set(one.digest, one)
      seen.add(one.digest)
      if (seen.size > MAX_PARTS + 1)
        throw new StrataError('limit_exceeded', `index ${index} leads to more than ${MAX_PARTS} manifests`)
    }
  }
  let subjects = 0
  const subjectOf = (document: z.infer<typeof documentSchema>): { subject?: Digest } => {
    const subject = document.manifests === undefined ? document.subject?.digest : undefined
    return subject === undefined || ++subjects > MAX_SUBJECTS ? {} : { subject }
  }
  let level = new Map<Digest, Descriptor>()
  add(level, children)
  for (let isDirect = true; level.size > 0; isDirect = false) {
    const next = new Map<Digest, Descriptor>()
    const all = [...level.values()]
    const areThere = await atMost(LOOKS_AT_ONCE, all, ({ digest }) => sight.has(digest))
    for (let at = 0; at < all.length; at += READS_AT_ONCE) {
      const some = all.slice(at, at + READS_AT_ONCE)
      const found = await Promise.all(
        some.map(async ({ digest }, i) => (areThere[at + i] ? read(digest, sight) : undefined)),
      )
      for (const [i, child] of some.entries()) {
        const document = found[i]
        if (!document) lacks.push(child.digest)
        else if (!isDirect || document.manifests !== undefined || !isImagePart(child))
          parts.set(child.digest, { digest: child.digest, ...subjectOf(document) })
        else {
          const platform = formatPlatform(child.platform)
          parts.set(child.digest, { digest: child.digest, platform, ...subjectOf(document) })
          for (const { digest, size } of document.layers) layers.set(digest, size)
        }
        add(next, document?.manifests ?? [])
      }
    }
    level = next
  }
  return { parts: [...parts.values()], lacks, size: [...layers.values()].reduce((sum, size) => sum + size, 0) }
}

/**
 * Reads a manifest and holds all that it names. `undefined`: it cannot be read, or a blob is
 * missing that must be there.
 */
async function read(digest: Digest, { blobs, hold, takesSparse }: Sight) {
  try {
    const bytes = await blobs.read(digest, MAX_JSON_BYTES)
    const document = parseJson(documentSchema, bytes, `manifest ${digest}`, 'corrupt')
    if (document.manifests !== undefined) return (await hold([digest])) ? document : undefined
    const mayLack = new MayLack(takesSparse).add(document).digests
    const needed = [document.config, ...document.layers].map((blob) => blob.digest)
    if (!(await hold([digest, ...needed.filter((blob) => !mayLack.has(blob))]))) return undefined
    await hold([...mayLack])
    return document
  } catch (error) {
    if (isOfOneManifest(error)) return undefined
    throw error
  }
}

/** An attestation says that it is for `unknown/unknown`. */
function isImagePart(child: Descriptor): child is Descriptor & { readonly platform: Platform } {
  const { platform, mediaType } = child
  return (
    platform !== undefined &&
    platform !== null &&
    platform.os !== 'unknown' &&
    (mediaType === undefined || isManifestType(mediaType))
  )
}
