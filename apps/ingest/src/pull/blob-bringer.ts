import { atMost, failpoint, StrataError, type Slots, type Turns } from '@strata/base'
import { algorithmOf, type Descriptor, type Digest, type Repository } from '@strata/oci'
import type { RemoteRepository } from '@strata/remote'
import type { BlobStore, RepositoryBlobs, Uploads } from '@strata/store'
import { Cut } from './cut.js'
import type { PullProgress } from './pull-progress.js'
import type { PullState } from './pull-state.js'

/** Blobs that one pull fetches at the same time. */
const AT_ONCE = 3
/**
 * A larger blob comes in chunks of this size, each recorded: so much is fetched again at most when
 * the process is killed.
 */
const CHUNK_BYTES = 64 * 1024 * 1024
/** How often a blob is begun whose upload has expired. */
const ATTEMPTS = 3
/** A blob of this size or less comes at once, without a record of how far it has come. */
const SMALL_BYTES = 1024 * 1024

/** What all pulls of a process share. */
export interface BringerParts {
  readonly blobs: BlobStore
  readonly repositoryBlobs: RepositoryBlobs
  readonly uploads: Uploads
  readonly slots: Slots
  /** Of a blob from one registry: what several pulls want comes once. */
  readonly turns: Turns
}

/**
 * Brings blobs into a repository as a client of our registry does: by uploads. A blob that the
 * store has is not fetched. Every blob is held by the pull's lease until its manifest is visible,
 * and beside that as a pushed one is, so that the next pull does not fetch it again.
 */
export class BlobBringer {
  constructor(
    private readonly parts: BringerParts,
    private readonly repository: Repository,
    private readonly there: RemoteRepository,
    /** Of whom the blobs are. */
    private readonly host: string,
    private readonly lease: string,
    private readonly state: PullState,
    private readonly progress: PullProgress,
    private readonly signal: AbortSignal,
  ) {}

  /** `onHere`: called when a blob is there, before the next one is begun. */
  async bring(blobs: readonly Descriptor[], onHere: (blob: Descriptor) => Promise<void>): Promise<void> {
    const stop = new AbortController()
    const signal = AbortSignal.any([this.signal, stop.signal])
    await atMost(AT_ONCE, blobs, async (blob) => {
      try {
        signal.throwIfAborted()
        await this.#bring(blob, signal)
        await onHere(blob)
      } catch (error) {
        // The others are not wanted any more.
        stop.abort(error)
        throw error
      }
    })
  }

  /** Ends the uploads that are not finished, and what they brought. */
  async giveUp(): Promise<void> {
    for (const upload of this.state.uploads) await this.#cancel(upload)
  }

  async #bring(blob: Descriptor, signal: AbortSignal): Promise<void> {
    if (await this.#isHere(blob)) return
    // Not by digest alone: a registry that is slow holds up no pull from another one.
    await this.parts.turns.run(`${this.host} ${blob.digest}`, signal, async () => {
      if (!(await this.#isHere(blob))) await this.#get(blob, signal)
    })
  }

  async #isHere({ digest, size }: Descriptor): Promise<boolean> {
    if (!(await this.#hold(digest))) return false
    // Its upload came to its end, and the run that brought it did not.
    const upload = this.state.uploadOf(digest)
    if (upload !== undefined) {
      await this.#cancel(upload)
      await this.state.finished(digest, size)
    }
    this.progress.known(digest)
    return true
  }

  async #get(blob: Descriptor, signal: AbortSignal): Promise<void> {
    const { digest, size } = blob
    await this.parts.slots.run(signal, () => this.#fetchAgain(blob, signal))
    if (!(await this.#hold(digest)))
      throw new StrataError('layer_missing', `the blob ${digest} was removed here right after it had come: pull again`)
    failpoint('pull.blob-held')
    await this.state.finished(digest, size)
    this.progress.pulled(digest)
  }

  /** `false`: the store does not have the blob. */
  async #hold(digest: Digest): Promise<boolean> {
    if (!(await this.parts.blobs.hold(digest, this.lease))) return false
    await this.parts.repositoryBlobs.add(this.repository, [digest], this.lease)
    return true
  }

  /** An upload may expire at any moment in which nobody uses it. Then it is begun anew. */
  async #fetchAgain(blob: Descriptor, signal: AbortSignal): Promise<void> {
    for (let attempt = 1; ; attempt++)
      try {
        return await this.#fetch(blob, signal)
      } catch (error) {
        if (!isGone(error) || attempt === ATTEMPTS) throw error
      }
  }

  async #fetch(blob: Descriptor, signal: AbortSignal): Promise<void> {
    const { digest, size } = blob
    const { repository } = this
    const { uploads } = this.parts
    const onBytes = (bytes: number): void => this.progress.came(digest, bytes)
    const before = size > SMALL_BYTES ? await this.#upload(digest) : undefined
    const start = before?.bytes ?? 0
    this.progress.pulling(digest, start)
    if (before && start === size) return uploads.finish(repository, before.id, digest, undefined, signal)

    const onWait = (why: string): void => this.progress.waits(why)
    const source = await this.there.blob({ digest, size }, { start, signal, onWait })
    const cut = new Cut(source.body)
    try {
      if (!before) return await uploads.put(repository, digest, { source: cut.next(size, onBytes), length: size })
      let { id } = before
      let at = source.start
      if (at !== start) {
        // The registry knows no ranges.
        await this.#cancel(id)
        ;({ id } = await this.#begin(digest))
        this.progress.pulling(digest, at)
      }
      for (; size - at > CHUNK_BYTES; at += CHUNK_BYTES) {
        await uploads.append(repository, id, { source: cut.next(CHUNK_BYTES, onBytes), start: at, length: CHUNK_BYTES })
        this.state.gotOn()
      }
      const last = { source: cut.next(size - at, onBytes), start: at, length: size - at }
      await uploads.finish(repository, id, digest, last, signal)
    } finally {
      await cut.close()
    }
  }

  /** The upload that an earlier run has begun, or a new one. */
  async #upload(digest: Digest): Promise<{ readonly id: string; readonly bytes: number }> {
    const id = this.state.uploadOf(digest)
    try {
      if (id !== undefined) return await this.parts.uploads.status(this.repository, id)
    } catch (error) {
      // Nobody has used it for too long.
      if (!isGone(error)) throw error
    }
    return this.#begin(digest)
  }

  async #begin(digest: Digest): Promise<{ readonly id: string; readonly bytes: number }> {
    const upload = await this.parts.uploads.begin(this.repository, algorithmOf(digest))
    await this.state.begun(digest, upload.id)
    failpoint('pull.upload-noted')
    return upload
  }

  async #cancel(upload: string): Promise<void> {
    try {
      await this.parts.uploads.cancel(this.repository, upload)
    } catch (error) {
      if (!isGone(error)) throw error
    }
  }
}

function isGone(error: unknown): boolean {
  return error instanceof StrataError && error.code === 'upload_not_found'
}
