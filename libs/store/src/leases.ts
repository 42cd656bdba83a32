import { randomUUID } from 'node:crypto'
import { StrataError } from '@strata/base'
import { z } from 'zod'
import { freshDataKey, keys, PREFIX, leaseInKey } from './keys.js'
import { conditionalRemove, type Etag, type ObjectStore } from './object-store.js'
import { UsedIds } from './used-ids.js'
import { GONE, recordBytes, Records, type Found } from './records.js'

/**
 * What an upload goes through. States go forward only.
 *
 *     receiving ─▶ received ─▶ committing ─▶ named ─▶ (no record)
 *
 * - `receiving`: bytes arrive; one process owns the upload and shows by heartbeats that it lives.
 * - `received`: all bytes are in the store; a job works on them.
 * - `committing`: names are being set.
 * - `named`: all names are set, and the result is kept. No run sets a name any more. The request
 *   may have been answered.
 */
const LEASE_STATES = ['receiving', 'received', 'committing', 'named'] as const
export type LeaseState = (typeof LEASE_STATES)[number]

/**
 * Who keeps an upload alive in which state, and as what it ends there, whoever ends it (its own
 * run, or an observer for it). Whoever ends one as `failed` ends it first and tells of the failure
 * afterwards: what was told to have failed sets no name later.
 */
export const LEASE_ENDS: Readonly<
  Record<LeaseState, { readonly keptBy: 'heartbeat' | 'job'; readonly as: 'failed' | 'done' }>
> = {
  receiving: { keptBy: 'heartbeat', as: 'failed' },
  received: { keptBy: 'job', as: 'failed' },
  committing: { keptBy: 'job', as: 'failed' },
  named: { keptBy: 'job', as: 'done' },
}

/**
 * A result up to this size is kept in the upload's record, a larger one is an object of the upload.
 */
const RESULT_IN_RECORD = 64 * 1024
/** A result says little of each image, but a limit of images may be set to any number. */
const MAX_RESULT_BYTES = 256 * 1024 * 1024

/** Fields that may be absent are absent in records of older versions. */
const uploadSchema = z.object({
  state: z.enum(LEASE_STATES),
  /**
   * The job that the upload belongs to: its kind says which service finishes it, and its id is how
   * callers know it.
   */
  job: z.object({ kind: z.string().max(100), id: z.string().max(100) }),
  /** Key of the list of what came, once received. */
  listing: z.string().max(1024).optional(),
  /** What the caller asked for, in the words of the job's kind. No secret, no content. */
  request: z.record(z.string(), z.json()),
  /** The run that works on it: see `LeaseRun`. */
  run: z.string().max(64).optional(),
  /** Key of the record that a run was about to change last: see `announce`. */
  about: z.string().max(1024).optional(),
  /** Once named: what the request is answered with, or the key of the object that holds it. */
  result: z.union([z.object({ value: z.json() }), z.object({ key: z.string().max(1024) })]).optional(),
})
export type Lease = z.infer<typeof uploadSchema>
export interface LiveLease extends Lease {
  readonly id: string
  /**
   * Changes with every write: an observer who sees it unchanged for long, by its own clock, may
   * `endUnchanged` it.
   */
  readonly etag: Etag
}

/**
 * Whose hands an upload is in: those of one run of its job, or of the process that receives it. Two
 * runs may work at the same time (one stood still for longer than its job's lock, and was let go).
 * Only the one that began last may change the upload, set names and end it; the other is answered
 * `upload_interrupted`.
 */
export interface LeaseRun {
  readonly lease: string
  readonly id: string
}

/**
 * Who is writing into the store. An upload's record lives from before its first hold of a blob
 * until after the names are visible; while it lives, nothing that it holds or wrote is collected.
 * Ids are fresh, so records are deleted outright in the end.
 *
 * **A run that was superseded changes nothing that its successor, or an answer, has left behind.**
 * A run changes a record that others know (a name) in three steps: it reads that record with its
 * ETag, `announce`s its key in the upload's record, which fails if the run is not the upload's any
 * more, and writes if the ETag is still the same. Whoever takes the upload over, to go on with it
 * (`begin`) or to end it (`endUnchanged`), first puts a run of its own into its record, then renews the ETag of what the last one had announced. So each write of the last run came before
 * that, or fails. names-model.ts tries every interleaving.
 *
 * Every method that takes a run throws `upload_interrupted` if the upload is gone or another run
 * has it, unless it says something else.
 */
export class Leases {
  readonly #records: Records<Lease>
  /** Records of any shape, for `#renew`. */
  readonly #any: Records<unknown>

  readonly #used: UsedIds

  constructor(private readonly store: ObjectStore) {
    this.#used = new UsedIds(store)
    this.#records = new Records(store, uploadSchema, 'the record of upload', () => 'the upload is ended by itself')
    this.#any = new Records(store, z.unknown(), 'the record')
  }

  /**
   * @throws StrataError `job_exists` if the id is taken: by an upload, or by one that has ended,
   * whose bytes blobs may consist of (`UsedIds`). What is there is left as it is.
   */
  async create(id: string, upload: Omit<Lease, 'state'> & { state?: Lease['state'] }): Promise<LeaseRun> {
    const run = { lease: id, id: randomUUID() }
    const taken = new StrataError('job_exists', `the id ${id} was used for an upload before`)
    const written = await this.#records.write(keys.lease(id), { state: 'receiving', ...upload, run: run.id }, undefined)
    if (!written) throw taken
    if (await this.#used.claim(id)) return run
    await this.endBy(run, 'done')
    throw taken
  }

  async get(id: string): Promise<LiveLease | undefined> {
    const found = await this.#records.find(keys.lease(id))
    return found?.value && { id, etag: found.etag, ...found.value }
  }

  /**
   * Takes the upload over, for a run that works on it from its beginning.
   * @throws StrataError `upload_interrupted` if it is gone
   */
  async begin(id: string): Promise<{ readonly run: LeaseRun; readonly upload: Lease }> {
    const run = { lease: id, id: randomUUID() }
    const upload = await this.#records.update(keys.lease(id), (upload) => upload && { ...upload, run: run.id })
    if (!upload) interrupted(id)
    await this.#renew(upload)
    return { run, upload }
  }

  /** Changes the record by compare-and-set; also a heartbeat. States go forward only. */
  async update(run: LeaseRun, change: (upload: Lease) => Lease | undefined): Promise<Lease> {
    const { lease: id } = run
    const after = await this.#records.update(keys.lease(id), (upload) => {
      if (!upload) return undefined
      if (upload.run !== run.id) interrupted(id)
      const next = change(upload)
      if (next && ORDER[next.state] < ORDER[upload.state])
        throw new StrataError('internal', `upload ${id} is ${upload.state} and cannot become ${next.state} again`)
      return next
    })
    return after ?? interrupted(id)
  }

  /** Heartbeat: the record changes, nothing in it does. */
  async touch(run: LeaseRun): Promise<void> {
    await this.update(run, (upload) => upload)
  }

  /**
   * Says which record the run changes next. To be called after that record was read, and before it
   * is written: see above.
   */
  async announce(run: LeaseRun, key: string): Promise<void> {
    await this.update(run, (upload) => (upload.about === key ? undefined : { ...upload, about: key }))
  }

  /**
   * All names are set. From here on the request is answered with `result`, by whoever gets to it.
   */
  async named(run: LeaseRun, result: z.core.util.JSONType): Promise<Lease> {
    const value = { value: result }
    let kept: Lease['result'] = value
    if (recordBytes(value) > RESULT_IN_RECORD) {
      kept = { key: freshDataKey(run.lease) }
      await this.store.put(kept.key, Buffer.from(JSON.stringify(result)))
    }
    return this.update(run, (upload) => ({ ...upload, state: 'named', result: kept }))
  }

  /**
   * What the request of an upload that is `named` is answered with.
   * @throws StrataError `corrupt` if that is gone or damaged
   */
  async resultOf({ job, result }: Lease): Promise<unknown> {
    if (result && 'value' in result) return result.value
    const object = result && (await this.store.read(result.key, MAX_RESULT_BYTES))
    try {
      if (object) return JSON.parse(object.bytes.toString()) as unknown
    } catch {
      // As one that is gone.
    }
    throw new StrataError(
      'corrupt',
      `the names of upload ${job.id} are set, but what it was to be answered with is gone or damaged`,
    )
  }

  /**
   * The uploads that live, in the order of their ids. One whose record is damaged counts as living
   * until somebody ends it (`endUnchanged`); it is given to `onDamaged` in between.
   */
  async *listLive(onDamaged?: (upload: Pick<LiveLease, 'id' | 'etag'>) => void): AsyncGenerator<LiveLease> {
    const found = this.#records.list(PREFIX.leases, {
      onDamaged: ({ key, etag }) => {
        const id = leaseInKey(key)
        if (id !== undefined) onDamaged?.({ id, etag })
      },
    })
    for await (const { key, value, etag } of found) {
      const id = leaseInKey(key)
      if (id !== undefined) yield { id, etag, ...value }
    }
  }

  /** The ids of all uploads that live, or may live: their records are damaged. */
  async liveIds(): Promise<Set<string>> {
    const ids = new Set<string>()
    for await (const { id } of this.listLive(({ id: damaged }) => ids.add(damaged))) ids.add(id)
    return ids
  }

  /**
   * The upload is over: its names are visible (`done`), or it failed for good. From here its holds
   * count for nothing. Its bytes that no blob uses are `BlobStore.deleteUnused`'s to remove. `true`
   * also if it was over before; `false`: another run works on it, and it goes on.
   */
  async endBy(run: LeaseRun, as: 'done' | 'failed'): Promise<boolean> {
    const key = keys.lease(run.lease)
    const isOurs = (upload: Lease | undefined): boolean => upload === undefined || upload.run === run.id
    const upload = await this.#records.read(key)
    if (!isOurs(upload)) return false
    // A write that failed because a server did not answer may still be on its way. In a folder
    // there is none, and no room is needed.
    if (upload && as === 'failed' && !conditionalRemove(this.store)) await this.#renew(upload)
    const after = await this.#records.update(key, (upload) => (upload && isOurs(upload) ? GONE : undefined))
    if (after === undefined) await this.store.delete([key])
    return after === undefined
  }

  /**
   * Ends an upload that nobody works on, as one who has the store for himself knows. Idempotent.
   */
  async end(id: string): Promise<void> {
    await this.#records.update(keys.lease(id), (upload) => upload && GONE)
    await this.store.delete([keys.lease(id)])
  }

  /**
   * Ends an upload whose owner seems dead, if its record is still the one with `etag`; `false` if
   * it has changed. If its owner lives after all, it can set no name from here on. (Where the
   * record is damaged nobody can tell what was announced: its owner fails at its next step.)
   */
  async endUnchanged(id: string, etag: Etag): Promise<boolean> {
    const key = keys.lease(id)
    const found = await this.#records.look(key)
    if (found?.etag !== etag) return false
    let last: Found<Lease> = found
    // Where nothing was announced there is nothing to renew, and on a full disk nothing needs to be
    // written to make room.
    if (found.value?.about !== undefined) {
      const mine = { ...found.value, run: randomUUID() }
      const taken = await this.#records.write(key, mine, found)
      if (taken === undefined) return false
      await this.#renew(mine)
      last = { value: mine, etag: taken }
    }
    if (!(await this.#records.retire(key, last))) return false
    await this.store.delete([key])
    return true
  }

  /**
   * What the run before had announced fails, if it was not written yet. The key stays announced
   * until this is done: who dies before that is followed by one who does it.
   */
  async #renew({ about }: Lease): Promise<void> {
    if (about !== undefined) await this.#any.renew(about)
  }
}

/**
 * How often an owner shows observers that it lives: by default they take it for dead after four of
 * these.
 */
export const HEARTBEAT_MS = 2_000

const ORDER = { receiving: 0, received: 1, committing: 2, named: 3 } as const satisfies Record<LeaseState, number>

export function interrupted(id: string): never {
  throw new StrataError(
    'upload_interrupted',
    `upload ${id} was ended: its owner was silent for too long, or it was cancelled`,
  )
}
