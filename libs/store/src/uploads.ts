import { StrataError } from '@strata/oci'
import { z } from 'zod'
import { keys, PREFIX, uploadInKey } from './keys.js'
import type { Etag, ObjectStore } from './object-store.js'
import { GONE, Records } from './records.js'

export const uploadSchema = z.object({
  /**
   * `receiving`: bytes arrive, one process owns it and heartbeats. `received`: all is in the store, a job works on it. `committing`: names are being set;
   * from here it is finished by whoever finds it, never ended as failed.
   */
  state: z.enum(['receiving', 'received', 'committing']),
  /** The job that the upload belongs to: its kind says which service finishes it, and its id is how callers know it. */
  job: z.object({ kind: z.string().max(100), id: z.string().max(100) }),
  /** Key of the list of what came, once received. */
  listing: z.string().max(1024).optional(),
  /** What the caller asked for, in the words of the job's kind. No secret, no content. */
  request: z.record(z.string(), z.json()),
})
export type Upload = z.infer<typeof uploadSchema>
export interface LiveUpload extends Upload {
  readonly id: string
  /** Changes with every write: an observer who sees it unchanged for long, by its own clock, may `abandon` it. */
  readonly etag: Etag
}

/**
 * Who is writing into the store. An upload's record lives from before its first hold of a blob until after the names are visible; while it lives, nothing that it
 * holds or wrote is collected. Ids are fresh, so records are deleted outright in the end.
 *
 * Every method but `create` and `end` throws `upload_interrupted` if the upload is gone: its owner was taken for dead and ended, and must stop.
 */
export class Uploads {
  readonly #records: Records<Upload>

  constructor(private readonly store: ObjectStore) {
    this.#records = new Records(store, uploadSchema, 'the record of upload')
  }

  /** @throws StrataError `job_exists` if the id is taken */
  async create(id: string, upload: Omit<Upload, 'state'> & { state?: Upload['state'] }): Promise<void> {
    const written = await this.#records.write(keys.upload(id), { state: 'receiving', ...upload }, undefined)
    if (!written) throw new StrataError('job_exists', `there is an upload ${id} already`)
  }

  async get(id: string): Promise<LiveUpload | undefined> {
    const found = await this.#records.find(keys.upload(id))
    return found?.value && { id, etag: found.etag, ...found.value }
  }

  /** Changes the record by compare-and-set; also a heartbeat. States go forward only. */
  async update(id: string, change: (upload: Upload) => Upload): Promise<Upload> {
    const after = await this.#records.update(keys.upload(id), (upload) => {
      if (!upload) return undefined
      const next = change(upload)
      if (ORDER[next.state] < ORDER[upload.state]) throw new StrataError('internal', `upload ${id} is ${upload.state} and cannot become ${next.state} again`)
      return next
    })
    return after ?? interrupted(id)
  }

  /** Heartbeat: the record changes, nothing in it does. */
  async touch(id: string): Promise<void> {
    await this.update(id, (upload) => upload)
  }

  /** The uploads that live, in the order of their ids. */
  async *listLive(): AsyncGenerator<LiveUpload> {
    for await (const { key, value, etag } of this.#records.list(PREFIX.uploads)) {
      const id = uploadInKey(key)
      if (id !== undefined) yield { id, etag, ...value }
    }
  }

  /**
   * The upload is over: its names are visible, or it failed for good. From here its holds count for nothing. Its bytes that no blob uses are
   * `BlobStore.sweepUpload`'s to remove. Idempotent.
   */
  async end(id: string): Promise<void> {
    await this.#records.update(keys.upload(id), (upload) => upload && GONE)
    await this.store.delete([keys.upload(id)])
  }

  /**
   * Ends an upload whose owner seems dead, if its record is still the one with `etag`; `false` if it has changed, or is committing (then its job is run
   * again instead).
   */
  async abandon(id: string, etag: Etag): Promise<boolean> {
    const key = keys.upload(id)
    const found = await this.#records.find(key)
    if (found?.value === undefined || found.etag !== etag || found.value.state === 'committing') return false
    if (!(await this.#records.retire(key, found))) return false
    await this.store.delete([key])
    return true
  }
}

/** How often an owner shows observers that it lives: by default they take it for dead after four of these. */
export const HEARTBEAT_MS = 2_000

const ORDER = { receiving: 0, received: 1, committing: 2 } as const

export function interrupted(id: string): never {
  throw new StrataError('upload_interrupted', `upload ${id} was ended: its owner was silent for too long, or it was cancelled`)
}
