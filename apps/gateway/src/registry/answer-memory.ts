import type { ServerResponse } from 'node:http'
import { StrataError } from '@strata/base'
import type { Digest } from '@strata/oci'
import { onceClosed } from '@strata/platform'

/** What an entry takes beside its bytes. */
const ENTRY_BYTES = 512
/** An answer that is being sent for longer makes room for another one, if there is no room else. */
const SENT_MS = 10_000

/** An answer that bytes are part of. */
interface Use {
  readonly since: number
  cut: (() => void) | undefined
}

/** Bytes that count. */
interface Entry {
  readonly cost: number
  readonly users: Set<Use>
}

interface Manifest extends Entry {
  readonly bytes: Promise<Buffer>
}

/** Bytes of an answer, until `release` is called. */
export interface HeldBytes {
  readonly bytes: Buffer
  /** May be called again. */
  readonly release: () => void
  /** Says how the answer is broken off, if its room is needed. */
  readonly onCut: (cut: () => void) => void
}

/** Counts bytes that are about to be held. @throws StrataError `overloaded` if there is no room */
export type CountBytes = (bytes: number) => void

/**
 * The bytes of manifests and lists that are on their way to clients, and of manifests that were
 * sent last.
 *
 * A client may take its answer slowly (1 KiB a second: UnreadAnswers), and a manifest or a page of
 * referrers has up to 4 MiB. So all of them have a bound together.
 *
 * Laws
 * - All of them take at most `limit` bytes together. Each is counted before it is read or made.
 * - A manifest is here once, however many clients it is sent to, and is read once by all that ask
 *   for it at the same time.
 * - A manifest that no answer uses makes room for others, the one that was used longest ago first.
 * - If that is not enough, answers that have been sent for more than `SENT_MS` are broken off, the
 *   oldest first, with all that share their bytes. Otherwise clients that take them slowly, and ask
 *   again each time, would hold all the room for ever. If that is not enough either, none is, and the
 *   request is refused: `overloaded`. Nothing waits for room, since a slow client could hold up all
 *   others.
 *
 * Bytes follow from their digest, so a manifest here is never wrong. Whether a repository *has* the
 * manifest is not known here: the caller reads that from the store for each request.
 */
export class AnswerMemory {
  /** The one that was used longest ago comes first. */
  readonly #manifests = new Map<Digest, Manifest>()
  /** What is no manifest. */
  readonly #pages = new Set<Entry>()
  #held = 0

  /** `observe` gets each look for a manifest: whether its bytes were here. */
  constructor(
    private readonly limit: number,
    private readonly observe: (isHit: boolean) => void = () => undefined,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /**
   * The manifest's bytes. `read` is called if they are not here.
   * @throws StrataError `overloaded`; `corrupt` if `read` gives another number of bytes; what
   * `read` throws
   */
  async manifest(digest: Digest, size: number, read: () => Promise<Buffer>): Promise<HeldBytes> {
    const known = this.#manifests.get(digest)
    this.observe(known !== undefined)
    const entry = known ?? this.#begin(digest, size, read)
    this.#manifests.delete(digest)
    this.#manifests.set(digest, entry)
    const use = this.#use(entry)
    const release = (): void => void entry.users.delete(use)
    try {
      return { bytes: await entry.bytes, release, onCut: (cut) => (use.cut = cut) }
    } catch (error) {
      release()
      throw error
    }
  }

  /**
   * A page of a list, for one answer alone. It has its memory before it is made: `expected` bytes,
   * and what `build` counts beside them. Afterwards it has what it takes.
   * @throws StrataError `overloaded`, also by `count`; what `build` throws
   */
  async page(expected: number, build: (count: CountBytes) => Promise<Buffer>): Promise<HeldBytes> {
    let held = 0
    const count: CountBytes = (bytes) => {
      this.#makeRoom('this page', bytes)
      this.#held += bytes
      held += bytes
    }
    let bytes: Buffer
    try {
      count(expected)
      bytes = await build(count)
    } finally {
      this.#held -= held
    }
    return this.#own(bytes)
  }

  /** Bytes of one answer alone. @throws StrataError `overloaded` */
  #own(bytes: Buffer): HeldBytes {
    this.#makeRoom('this page', bytes.length)
    const page: Entry = { cost: bytes.length, users: new Set() }
    this.#pages.add(page)
    this.#held += page.cost
    const use = this.#use(page)
    return { bytes, release: () => this.#forgetPage(page), onCut: (cut) => (use.cut = cut) }
  }

  #use({ users }: Entry): Use {
    const use: Use = { since: this.now(), cut: undefined }
    users.add(use)
    return use
  }

  #begin(digest: Digest, size: number, read: () => Promise<Buffer>): Manifest {
    const cost = size + ENTRY_BYTES
    this.#makeRoom(`the manifest ${digest}`, cost)
    this.#held += cost
    const bytes = read().then((found) => {
      if (found.length === size) return ownMemory(found)
      throw new StrataError('corrupt', `the manifest ${digest} has ${found.length} bytes, and its record says ${size}`)
    })
    const entry: Manifest = { cost, bytes, users: new Set() }
    bytes.catch(() => this.#forget(digest, entry))
    return entry
  }

  #makeRoom(what: string, cost: number): void {
    const hasRoom = (): boolean => this.#held + cost <= this.limit
    for (const [other, entry] of this.#manifests) {
      if (hasRoom()) return
      if (entry.users.size === 0) this.#forget(other, entry)
    }
    if (hasRoom() || this.#breakOff(this.#held + cost - this.limit)) return
    throw new StrataError(
      'overloaded',
      `the manifests and lists that are being sent take ${this.limit} bytes of memory, and ${what} has no room; try again in a moment (STRATA_MANIFEST_MEMORY)`,
    )
  }

  /** Breaks off what has been sent for long until so many bytes are free; `false`: nothing. */
  #breakOff(wanted: number): boolean {
    const before = this.now() - SENT_MS
    const slow = [
      ...[...this.#manifests].map(([digest, entry]) => ({ ...entry, forget: () => this.#forget(digest, entry) })),
      ...[...this.#pages].map((page) => ({ ...page, forget: () => this.#forgetPage(page) })),
    ]
      .map((one) => ({ ...one, since: Math.min(...[...one.users].map(({ since }) => since)) }))
      .filter(({ since, users }) => since <= before && [...users].every(({ cut }) => cut))
      .sort((one, other) => one.since - other.since)
    if (slow.reduce((sum, { cost }) => sum + cost, 0) < wanted) return false
    let free = 0
    for (const { cost, users, forget } of slow) {
      if (free >= wanted) break
      free += cost
      forget()
      for (const { cut } of users) cut?.()
    }
    return true
  }

  #forget(digest: Digest, entry: Manifest): void {
    // It may have been forgotten, and begun again.
    if (this.#manifests.get(digest) !== entry) return
    this.#manifests.delete(digest)
    this.#held -= entry.cost
  }

  #forgetPage(page: Entry): void {
    if (this.#pages.delete(page)) this.#held -= page.cost
  }
}

/** Releases the bytes when the answer is sent, or its client has left. */
export function releaseOnceClosed({ release, onCut }: HeldBytes, response: ServerResponse): void {
  onCut(() => response.destroy())
  onceClosed(response, release)
}

/** A small buffer may be a part of one that Node shares among many, and would keep all of it. */
function ownMemory(bytes: Buffer): Buffer {
  if (bytes.buffer.byteLength === bytes.length) return bytes
  const own = Buffer.allocUnsafeSlow(bytes.length)
  bytes.copy(own)
  return own
}
