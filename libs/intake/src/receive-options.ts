import { PACKED_LIMITS, type PackedLimits } from '@strata/archive'

export interface IntakeLimits {
  /** Entries of an archive. */
  readonly entries: number
  /** Bytes of an archive, unpacked. */
  readonly bytes: number
  /** How long a client may send nothing while it could. */
  readonly idleMs: number
  /** Of each layer; names, links and packing of the archive itself are bound by the same. */
  readonly layer: PackedLimits
}

export const INTAKE_LIMITS: IntakeLimits = { entries: 100_000, bytes: 2 ** 40, idleMs: 60_000, layer: PACKED_LIMITS }

/** `bytes` as they travelled, so that they compare with a Content-Length. */
export interface IntakeProgress {
  readonly bytes: number
  readonly entries: number
}

export interface ReceiveOptions {
  /** A fresh id: no data of it may be there. */
  readonly upload: string
  readonly signal?: AbortSignal
  readonly limits?: Partial<IntakeLimits>
  /**
   * The body is one file, kept as it came, packed or not: no archive is looked for in it. A plain
   * tar is indexed all the same; the list has one entry.
   */
  readonly whole?: boolean
  /** At most five times a second, and once at the end. */
  readonly onProgress?: (progress: IntakeProgress) => void
  /**
   * What is waited for, where that takes longer than a second (`waiting for a reader: 3 uploads are
   * being read`), and `undefined` when it is over.
   */
  readonly onWaiting?: (step: string | undefined) => void
}

export interface Received extends IntakeProgress {
  /** The key of the `ArchiveListing`. */
  readonly listing: string
}
