import { StrataError } from '@strata/base'
import { type ChainId, type DiffId } from '@strata/oci'

/** The name of a snapshot: a folder's name too, so its grammar is narrow. */
export type SnapshotKey = string & { readonly __brand: 'SnapshotKey' }

const KEY = /^[A-Za-z0-9][A-Za-z0-9_-]{0,199}$/

/** `bad_request` for anything but 1 to 200 letters, digits, `_` and `-`, the first no sign. */
export function parseSnapshotKey(text: string): SnapshotKey {
  if (!KEY.test(text))
    throw new StrataError(
      'bad_request',
      `${JSON.stringify(text.slice(0, 200))} is no key of a snapshot: letters, digits, _ and - only, at most 200`,
    )
  return text as SnapshotKey
}

export type SnapshotKind = 'writable' | 'view'

export interface SnapshotInfo {
  readonly key: SnapshotKey
  readonly kind: SnapshotKind
  /** The root that it is a child of. */
  readonly chainId: ChainId
}

export interface RootInfo {
  readonly chainId: ChainId
  /**
   * Lowest first; none of a root that cannot be used any more (another driver's, or from before a
   * loss of power).
   */
  readonly layers: readonly DiffId[]
  /**
   * Where a mount stands on it: an overlay above it, or one more mount of the same. Snapshots that
   * are not mounted are not told here: `walk`.
   */
  readonly usedAt: string | undefined
}

export interface Usage {
  /** On disk, not as files say. */
  readonly bytes: number
  readonly inodes: number
}
