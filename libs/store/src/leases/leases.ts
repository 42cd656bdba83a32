import { randomUUID } from 'node:crypto'
import { StrataError } from '@strata/base'
import { z } from 'zod'
import { freshDataKey, keys, PREFIX, leaseInKey } from '../keys.js'
import { conditionalRemove, listAll, type Etag, type ObjectStore } from '../objects/object-store.js'
import { LEASE_KINDS, LEASE_POLICIES, LEASE_STATES, type LeaseKind, type LeaseState } from './lease-kinds.js'
import { UsedIds } from './used-ids.js'
import { GONE, recordBytes, Records, TOMBSTONE_BYTES, type Found } from '../records.js'

/**
 * A result up to this size is kept in the lease's record, a larger one is an object of the lease.
 */
const RESULT_IN_RECORD = 64 * 1024
/**
 * A result has few bytes for each image. But the limit of images in an archive can be set to any
 * number.
 */
const MAX_RESULT_BYTES = 256 * 1024 * 1024

/** A list of holders is looked at for the first time when it has more than this many. */
const MANY_HOLDERS = 32
const LOOKS_AT_ONCE = 16

const KINDS: ReadonlySet<string> = new Set(LEASE_KINDS)
const kindSchema = z
  .string()
  .max(100)
  .transform((kind): LeaseKind => (isKind(kind) ? kind : 'unknown'))

function isKind(kind: string): kind is LeaseKind {
  return KINDS.has(kind)
}

/**
 * The record as it is stored; released versions wrote it in the same form. Fields are optional if
 * records of older versions may lack them.
 */
const leaseSchema = z.object({
  state: z.enum(LEASE_STATES),
  /**
   * `kind` says who keeps the lease alive (`LEASE_POLICIES`). `id` is the id of the request, which
   * a client may have chosen. It is not the lease's id.
   */
  job: z.object({ kind: kindSchema, id: z.string().max(100) }),
  /** Key of the list of what arrived, once all of it is received. */
  listing: z.string().max(1024).optional(),
  /**
   * The parameters of the request, in the form that its kind of job has. They hold no secret and no
   * content.
   */
  request: z.record(z.string(), z.json()),
  /** The id of the run that has the lease (`LeaseRun`). */
  run: z.string().max(64).optional(),
  /** Key of the record that a run changes next, or has changed last (`announce`). */
  about: z.string().max(1024).optional(),
  /** In the state `named`: the answer of the request, or the key of the object that holds it. */
  result: z.union([z.object({ value: z.json() }), z.object({ key: z.string().max(1024) })]).optional(),
})
export type Lease = z.infer<typeof leaseSchema>
/** A lease that has not ended, with its id. */
export interface LiveLease extends Lease {
  readonly id: string
  /**
   * Changes with every write. An observer that sees it unchanged for long, by its own clock, may
   * `endUnchanged` the lease.
   */
  readonly etag: Etag
}

/**
 * The worker of a lease: one run of its job, one request, or the process that receives its bytes.
 * Two may work at the same time, if the first one stood still for longer than its job's lock. Only
 * the one that began last may change the lease, make blobs of its bytes, set names and end it. The
 * other one gets `upload_interrupted`.
 */
export interface LeaseRun {
  readonly lease: string
  readonly id: string
}

/**
 * The leases of those that write into the store. A lease lives from before its first hold of a blob
 * until after the names are visible. Nothing that a live lease holds or wrote is collected. Its
 * kind says who keeps it alive (lease-kinds.ts).
 *
 * **A lease's id is fresh.** No lease had it before. Bytes lie below that id, blobs name it as
 * their holder and their maker, and its record is deleted when it ends: a process that stood still
 * across all that must never find another lease of the same id. It would treat the record of that
 * lease as its own, and delete or overwrite the bytes of that lease. So a client never chooses it.
 * What a client chooses is the id of its *request* (`job.id`), and `ofRequest` gives the lease.
 * store-model.ts shows the loss if two leases have one id.
 *
 * **A superseded run changes nothing after its successor has begun, or after the client was
 * answered.** A run changes a record that others read (a name, or a blob that is to have the run's
 * bytes) in three steps:
 * 1. It reads that record with its ETag.
 * 2. It writes the record's key into the lease (`announce`). This fails if the lease is gone or
 *    another run has it.
 * 3. It writes the record if the ETag is still the same.
 *
 * A process that takes the lease over, to go on with it (`begin`) or to end it (`endUnchanged`),
 * first puts a run of its own into the lease. Then it renews the ETag of the record that the last
 * run had announced. So each write of the last run came before that, or it fails. names-model.ts
 * and lease-model.ts try every interleaving. A run announces one record at a time.
 *
 * Every method that takes a run throws `upload_interrupted` if the lease is gone or another run has
 * it, unless its comment says something else.
 */
export class Leases {
  readonly #records: Records<Lease>
  /** Records of any shape, for `#renew`. */
  readonly #any: Records<unknown>

  readonly #used: UsedIds

  constructor(private readonly store: ObjectStore) {
    this.#used = new UsedIds(store)
    this.#records = new Records(store, leaseSchema, 'the record of upload', () => 'the upload is ended by itself')
    this.#any = new Records(store, z.unknown(), 'the record')
  }

  /**
   * Begins a lease. `id` is made for it by the caller (`randomUUID`). What exists under an id that
   * is taken stays as it is.
   *
   * The request is marked as used, so that nobody sends it again. A lease whose request has no id
   * but the lease's own, and no client that waits for it (`LEASE_POLICIES`, `tells`), gets no mark:
   * its id is fresh, so nobody can send it again.
   * @throws StrataError `exists` if another lease has the request, or had it not long ago
   * (`UsedIds`)
   */
  async create(id: string, lease: Omit<Lease, 'state'> & { state?: Lease['state'] }): Promise<LeaseRun> {
    const run = { lease: id, id: randomUUID() }
    const request = lease.job.id
    const taken = new StrataError('exists', `the id ${request} was used for an upload before`)
    const written = await this.#records.write(keys.lease(id), { state: 'receiving', ...lease, run: run.id }, undefined)
    if (!written) throw taken
    const isChosen = request !== id || LEASE_POLICIES[lease.job.kind].tells === 'request'
    if (!isChosen || (await this.#used.claim(request, id))) return run
    await this.endBy(run, 'done')
    throw taken
  }

  async get(id: string): Promise<LiveLease | undefined> {
    const found = await this.#records.find(keys.lease(id))
    return found?.value && { id, etag: found.etag, ...found.value }
  }

  /**
   * The id of the lease that a request has, or had. If no mark names the lease, it is the request's
   * id: the mark of a lease that is over may be deleted, and in older versions both had one id.
   * (Leases whose id nobody chose have one, too, and no mark.)
   */
  async idOf(request: string): Promise<string> {
    return (await this.#used.leaseOf(request)) ?? request
  }

  /** The lease of a request, if it lives. */
  async ofRequest(request: string): Promise<LiveLease | undefined> {
    return this.get(await this.idOf(request))
  }

  /**
   * Whether the lease may live. After it was `false` once, it stays `false`. A damaged record
   * counts as live.
   */
  async mayLive(id: string): Promise<boolean> {
    const found = await this.#records.look(keys.lease(id))
    return found?.value !== undefined || found?.damage !== undefined
  }

  /**
   * The holders for a record that is written next with `added` more, without ended leases. Each
   * holder costs a read. So a list is returned as it is, unless it grows beyond 32, 64, 128 and so
   * on: each time it has doubled.
   */
  async holdersLeft(holders: readonly string[], added: number): Promise<readonly string[]> {
    const { length } = holders
    const after = length + added
    if (after <= MANY_HOLDERS || Math.clz32(length - 1) === Math.clz32(after - 1)) return holders
    const left: string[] = []
    for (let at = 0; at < length; at += LOOKS_AT_ONCE) {
      const some = holders.slice(at, at + LOOKS_AT_ONCE)
      const lives = await Promise.all(some.map((id) => this.mayLive(id)))
      left.push(...some.filter((_, place) => lives[place]))
    }
    return left
  }

  /**
   * Takes the lease over, for a run that works on it from its beginning. `change` is made in the
   * same write.
   * @throws StrataError `upload_interrupted` if it is gone
   */
  async begin(
    id: string,
    change: (lease: Lease) => Lease = (lease) => lease,
  ): Promise<{ readonly run: LeaseRun; readonly lease: Lease }> {
    const run = { lease: id, id: randomUUID() }
    const lease = await this.#records.update(keys.lease(id), (lease) => lease && { ...change(lease), run: run.id })
    if (!lease) interrupted(id)
    await this.#renew(lease)
    return { run, lease }
  }

  /**
   * Changes the record by compare-and-set. Any change is a heartbeat too.
   * @throws StrataError `internal` if the state would go back
   */
  async update(run: LeaseRun, change: (lease: Lease) => Lease | undefined): Promise<Lease> {
    const { lease: id } = run
    const after = await this.#records.update(keys.lease(id), (lease) => {
      if (!lease) return undefined
      if (lease.run !== run.id) interrupted(id)
      const next = change(lease)
      if (next && ORDER[next.state] < ORDER[lease.state])
        throw new StrataError('internal', `upload ${id} is ${lease.state} and cannot become ${next.state} again`)
      return next
    })
    return after ?? interrupted(id)
  }

  /** A heartbeat: writes the record with the same content. */
  async touch(run: LeaseRun): Promise<void> {
    await this.update(run, (lease) => lease)
  }

  /**
   * Writes into the lease which record the run changes next. It must be called after that record
   * was read and before it is written (see above).
   */
  async announce(run: LeaseRun, key: string): Promise<void> {
    await this.update(run, (lease) => (lease.about === key ? undefined : { ...lease, about: key }))
  }

  /**
   * Records that all names are set, and keeps `result`. From here on, any process may answer the
   * request with it.
   */
  async named(run: LeaseRun, result: z.core.util.JSONType): Promise<Lease> {
    const value = { value: result }
    let kept: Lease['result'] = value
    if (recordBytes(value) > RESULT_IN_RECORD) {
      kept = { key: freshDataKey(run.lease) }
      await this.store.put(kept.key, Buffer.from(JSON.stringify(result)))
    }
    return this.update(run, (lease) => ({ ...lease, state: 'named', result: kept }))
  }

  /**
   * The answer of a request whose lease is `named`.
   * @throws StrataError `corrupt` if the result is gone or damaged
   */
  async resultOf({ job, result }: Lease): Promise<unknown> {
    if (result && 'value' in result) return result.value
    const object = result && (await this.store.read(result.key, MAX_RESULT_BYTES))
    try {
      if (object) return JSON.parse(object.bytes.toString()) as unknown
    } catch {
      // A damaged result is reported as one that is gone.
    }
    throw new StrataError(
      'corrupt',
      `the names of upload ${job.id} are set, but its result is gone or damaged: list the images to see them`,
    )
  }

  /**
   * The live leases, in the order of their ids. A lease whose record is damaged counts as live
   * until it is ended (`endUnchanged`). It is given to `onDamaged` in between. A lease of `known`
   * that has not changed since is given as it is there, and is not read.
   */
  async *listLive({
    known,
    onDamaged,
  }: {
    readonly known?: ReadonlyMap<string, LiveLease>
    readonly onDamaged?: (lease: Pick<LiveLease, 'id' | 'etag'>) => void
  } = {}): AsyncGenerator<LiveLease> {
    for await (const { key, size, etag } of listAll(this.store, PREFIX.leases)) {
      const id = leaseInKey(key)
      // Where tombstones stay, their size shows them.
      if (id === undefined || size === TOMBSTONE_BYTES) continue
      const same = known?.get(id)
      if (same?.etag === etag) yield same
      else {
        const seen = await this.#records.look(key)
        if (seen?.damage) onDamaged?.({ id, etag: seen.etag })
        else if (seen?.value) yield { id, etag: seen.etag, ...seen.value }
      }
    }
  }

  /**
   * The ids of all live leases. Those with a damaged record are among them. No record is read: one
   * that ends while they are listed may be among them too.
   */
  async liveIds(): Promise<Set<string>> {
    const ids = new Set<string>()
    for await (const { key, size } of listAll(this.store, PREFIX.leases)) {
      const id = leaseInKey(key)
      if (id !== undefined && size !== TOMBSTONE_BYTES) ids.add(id)
    }
    return ids
  }

  /**
   * Ends the run's lease: its names are visible (`done`), or it failed for good. From here on its
   * holds count for nothing. `BlobStore.deleteUnused` deletes those of its bytes that no blob uses.
   * Gives `true` also if the lease was over before. Gives `false` if another run has the lease:
   * then it goes on.
   */
  async endBy(run: LeaseRun, as: 'done' | 'failed'): Promise<boolean> {
    const key = keys.lease(run.lease)
    const isOurs = (lease: Lease | undefined): boolean => lease === undefined || lease.run === run.id
    const lease = await this.#records.read(key)
    if (!isOurs(lease)) return false
    // If a server did not answer, a write that failed here may still reach it. A folder has no such
    // writes, and there the end of a lease must not need space.
    if (lease && as === 'failed' && !conditionalRemove(this.store)) await this.#renew(lease)
    const after = await this.#records.update(key, (lease) => (lease && isOurs(lease) ? GONE : undefined))
    if (after === undefined) await this.store.delete([key])
    return after === undefined
  }

  /**
   * Ends a lease that no run works on. Only for a caller that nobody shares the store with
   * (mend-tail.ts). Idempotent.
   */
  async end(id: string): Promise<void> {
    await this.#records.update(keys.lease(id), (lease) => lease && GONE)
    await this.store.delete([keys.lease(id)])
  }

  /**
   * Ends a lease whose owner seems dead, if its record still has this `etag`; `false` if it has
   * changed. If the owner lives after all, it can set no name from here on. (A damaged record does
   * not show what was announced. Then the owner fails at its next step.)
   */
  async endUnchanged(id: string, etag: Etag): Promise<boolean> {
    const key = keys.lease(id)
    const found = await this.#records.look(key)
    if (found?.etag !== etag) return false
    let last: Found<Lease> = found
    // If nothing was announced, there is nothing to renew. Then a full disk needs no write to make
    // space.
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
   * Makes the write fail that the run before had announced, if it has not been done yet. The key
   * stays announced until then, so if this process dies, the next one does the same.
   */
  async #renew({ about }: Lease): Promise<void> {
    if (about !== undefined) await this.#any.renew(about)
  }
}

const ORDER = { receiving: 0, received: 1, committing: 2, named: 3 } as const satisfies Record<LeaseState, number>

/** @throws StrataError `upload_interrupted` for this lease */
export function interrupted(id: string): never {
  throw new StrataError(
    'upload_interrupted',
    `upload ${id} was ended: its owner was silent for too long, or it was cancelled`,
  )
}
