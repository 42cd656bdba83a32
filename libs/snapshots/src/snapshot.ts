import { StrataError } from '@strata/base'
import { type ChainId, type DiffId } from '@strata/oci'

/** The name of a snapshot. It is a folder's name too, so its grammar is narrow. */
export type SnapshotKey = string & { readonly __brand: 'SnapshotKey' }

const KEY = /^[A-Za-z0-9][A-Za-z0-9_-]{0,199}$/

/**
 * Checks a key: 1 to 200 letters, digits, `_` and `-`, of which the first is a letter or a digit.
 * @throws StrataError `bad_request`
 */
export function parseSnapshotKey(text: string): SnapshotKey {
  if (!KEY.test(text))
    throw new StrataError(
      'bad_request',
      `${JSON.stringify(text.slice(0, 200))} is no key of a snapshot: it takes 1 to 200 letters, digits, _ and -, and begins with a letter or a digit`,
    )
  return text as SnapshotKey
}

export type SnapshotKind = 'writable' | 'view'

/** What is known of a snapshot without its driver. */
export interface SnapshotInfo {
  readonly key: SnapshotKey
  readonly kind: SnapshotKind
  /** The root that it is a child of. */
  readonly chainId: ChainId
}

export interface RootInfo {
  readonly chainId: ChainId
  /**
   * Lowest first. Empty for a root that cannot be used any more (another driver made it, or it is
   * from before a loss of power).
   */
  readonly layers: readonly DiffId[]
  /**
   * The mount point of a mount that uses it: an overlay above it, or another mount of it. A
   * snapshot that is not mounted does not show here, but in `walk`.
   */
  readonly usedAt: string | undefined
}

export interface Usage {
  /** Bytes of the blocks on disk, not the files' sizes. */
  readonly bytes: number
  readonly inodes: number
}
