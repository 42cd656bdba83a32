import type { ServerResponse } from 'node:http'
import { StrataError } from '@strata/base'
import type { Digest } from '@strata/oci'
import { closedSignal } from '@strata/platform'

/** What an entry takes beside its bytes. */
const ENTRY_BYTES = 512

interface Entry {
  readonly cost: number
  readonly bytes: Promise<Buffer>
  /** Answers that it is part of. */
  users: number
}

/** Bytes of an answer, until `release` is called. */
export interface HeldBytes {
  readonly bytes: Buffer
  /** May be called again. */
  readonly release: () => void
}

/**
 * The bytes of manifests and lists that are on their way to clients, and of manifests that were
 * sent last.
 *
 * A client may take its answer slowly (1 KiB a second: UnreadAnswers), and a manifest or a page of
 * referrers has up to 4 MiB. So all of them have a bound together.
 *
 * Laws
 * - All of them take at most `limit` bytes together.
 * - A manifest is here once, however many clients it is sent to, and is read once by all that ask
 *   for it at the same time.
 * - A manifest that no answer uses makes room for others, the one that was used longest ago first.
 *   If that is not enough, the request is refused: `overloaded`. Nothing waits for room, since a
 *   slow client could hold up all others.
 *
 * Bytes follow from their digest, so a manifest here is never wrong. Whether a repository *has* the
 * manifest is not known here: the caller reads that from the store for each request.
 */
export class AnswerMemory {
  /** The one that was used longest ago comes first. */
  readonly #entries = new Map<Digest, Entry>()
  #held = 0

  /** `observe` gets each look for a manifest: whether its bytes were here. */
  constructor(
    private readonly limit: number,
    private readonly observe: (isHit: boolean) => void = () => undefined,
  ) {}

  /**
   * The manifest's bytes. `read` is called if they are not here.
   * @throws StrataError `overloaded`; `corrupt` if `read` gives another number of bytes; what
   * `read` throws
   */
  async manifest(digest: Digest, size: number, read: () => Promise<Buffer>): Promise<HeldBytes> {
    const known = this.#entries.get(digest)
    this.observe(known !== undefined)
    const entry = known ?? this.#begin(digest, size, read)
    this.#entries.delete(digest)
    this.#entries.set(digest, entry)
    entry.users++
    let isHeld = true
    const release = (): void => {
      if (isHeld) entry.users--
      isHeld = false
    }
    try {
      return { bytes: await entry.bytes, release }
    } catch (error) {
      release()
      throw error
    }
  }

  /** Bytes of one answer alone. @throws StrataError `overloaded` */
  own(bytes: Buffer): HeldBytes {
    this.#makeRoom('this page', bytes.length)
    this.#held += bytes.length
    let isHeld = true
    const release = (): void => {
      if (isHeld) this.#held -= bytes.length
      isHeld = false
    }
    return { bytes, release }
  }

  #begin(digest: Digest, size: number, read: () => Promise<Buffer>): Entry {
    const cost = size + ENTRY_BYTES
    this.#makeRoom(`the manifest ${digest}`, cost)
    this.#held += cost
    const bytes = read().then((found) => {
      if (found.length === size) return ownMemory(found)
      throw new StrataError('corrupt', `the manifest ${digest} has ${found.length} bytes, and its record says ${size}`)
    })
    const entry: Entry = { cost, bytes, users: 0 }
    bytes.catch(() => this.#remove(digest, entry))
    return entry
  }

  #makeRoom(what: string, cost: number): void {
    for (const [other, entry] of this.#entries) {
      if (this.#held + cost <= this.limit) return
      if (entry.users === 0) this.#remove(other, entry)
    }
    if (this.#held + cost <= this.limit) return
    throw new StrataError(
      'overloaded',
      `the manifests and lists that are being sent take ${this.limit} bytes of memory, and ${what} has no room; try again in a moment (STRATA_MANIFEST_MEMORY)`,
    )
  }

  #remove(digest: Digest, entry: Entry): void {
    this.#entries.delete(digest)
    this.#held -= entry.cost
  }
}

/** Releases the bytes when the answer is sent, or its client has left. */
export function releaseOnceClosed({ release }: HeldBytes, response: ServerResponse): void {
  const closed = closedSignal(response)
  if (closed.aborted) release()
  else closed.addEventListener('abort', release, { once: true })
}

/** A small buffer may be a part of one that Node shares among many, and would keep all of it. */
function ownMemory(bytes: Buffer): Buffer {
  if (bytes.buffer.byteLength === bytes.length) return bytes
  const own = Buffer.allocUnsafeSlow(bytes.length)
  bytes.copy(own)
  return own
}
