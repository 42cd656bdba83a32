import { atMost, StrataError } from '@strata/base'
import type { Digest } from '@strata/oci'
import type { BlobStore, LeaseRun } from '@strata/store'
import type { Sight } from './below.js'

/** Blobs that are held at the same time: some 6 small store calls each. */
const HOLDS_AT_ONCE = 16
/** The same for each of the children of an index that are read at the same time. */
const HOLDS_OF_ONE_AT_ONCE = 4

/**
 * Holds all that a manifest refers to, and gives what it held. `sizes`: what the manifest says of
 * them. `mayLack`: those that may be missing.
 * @throws StrataError `layer_missing`; `not_an_image` if one of the sizes is not that of its blob
 */
export async function holdAll(
  blobs: BlobStore,
  digests: readonly Digest[],
  manifest: Digest,
  { lease }: LeaseRun,
  { sizes, mayLack }: { readonly sizes?: ReadonlyMap<Digest, number>; readonly mayLack: ReadonlySet<Digest> },
): Promise<Digest[]> {
  const all = await atMost(HOLDS_AT_ONCE, new Set(digests), async (digest) => {
    const held = await blobs.held(digest, lease)
    if (!held && mayLack.has(digest)) return []
    if (!held)
      throw new StrataError('layer_missing', `manifest ${manifest} needs blob ${digest}, which is not in the store`)
    const said = sizes?.get(digest)
    if (said !== undefined && said !== held.size)
      throw new StrataError(
        'not_an_image',
        `manifest ${manifest} says that ${digest} has ${said} bytes, and the blob has ${held.size}`,
      )
    return [digest]
  })
  return all.flat()
}

/** Holds blobs, each once: the children of an index may share them. */
export function holderOf(blobs: BlobStore, { lease }: LeaseRun): Sight['hold'] {
  const held = new Map<Digest, Promise<boolean>>()
  return async (digests) => {
    const areHeld = await atMost(HOLDS_OF_ONE_AT_ONCE, digests, (digest) => {
      const holding = held.get(digest) ?? blobs.hold(digest, lease)
      held.set(digest, holding)
      return holding
    })
    return areHeld.every(Boolean)
  }
}
