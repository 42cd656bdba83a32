import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { StrataError } from '@strata/base'
import { parseJson } from '@strata/oci'
import { z } from 'zod'
import { conditionalRemove, listAll, MAX_RECORD_BYTES, type Etag, type ObjectStore } from './objects/object-store.js'

/**
 * A record as it was read. `value` is `undefined` for a tombstone (it was there, and is gone), and
 * for what cannot be read as a record.
 */
export interface Found<T> {
  readonly value: T | undefined
  readonly etag: Etag
  /** Why it cannot be read. Its ETag is enough to write over it, or to retire it. */
  readonly damage?: StrataError
}

/** A record as a list shows it. */
export interface ListedRecord<T> {
  readonly key: string
  readonly value: T
  readonly etag: Etag
  readonly size: number
}

/**
 * What lies where a record should be, and cannot be read as one: a bad sector, a restore that went
 * wrong, a write by another program. What it said is not known, so nobody may act as if it said
 * nothing.
 */
export interface DamagedRecord {
  readonly key: string
  readonly etag: Etag
  readonly size: number
  readonly damage: StrataError
}

/** What `update`'s function gives to make the record a tombstone. */
export const GONE = Symbol('gone')

/**
 * With eight writers on one record a loop needs a handful; this many means that something is wrong.
 */
export const CAS_ATTEMPTS = 100

const envelopeSchema = z.object({ rev: z.string(), value: z.unknown().optional() })

/**
 * JSON objects of one shape, changed by compare-and-set only. As stored: `{"rev": <random>,
 * "value": {…}}`; a tombstone has no `value`.
 *
 * `rev` is fresh in each write, so that no two writes have one ETag: without it a record that was
 * A, B and A again would take a `replace` from someone who saw the first A only (tried on MinIO).
 * Everything in the store that can change is written here and nowhere else.
 *
 * A record that is damaged is named in the log, once for each state (a process warning). It does
 * not stop a list of the others, and can be written over and retired by its key.
 */
export class Records<T> {
  constructor(
    readonly store: ObjectStore,
    private readonly schema: z.ZodType<T>,
    /** For messages: `the record of blob …`. */
    private readonly what: string,
    /** For messages about a damaged one: what to do. */
    private readonly remedy?: (key: string) => string,
  ) {}

  /** @throws StrataError `corrupt` if what is there is damaged */
  async find(key: string): Promise<Found<T> | undefined> {
    const seen = await this.look(key)
    if (seen?.damage) throw seen.damage
    return seen
  }

  /** As `find`, but a damaged record is found as such. */
  async look(key: string): Promise<(Found<T> & { readonly size: number }) | undefined> {
    let object: { readonly bytes: Buffer; readonly etag: Etag } | undefined
    try {
      object = await this.store.read(key, MAX_RECORD_BYTES)
      return object && { value: this.#decode(key, object.bytes), etag: object.etag, size: object.bytes.length }
    } catch (error) {
      if (!(error instanceof StrataError && ['corrupt', 'limit_exceeded'].includes(error.code))) throw error
      const there = object ? { etag: object.etag, size: object.bytes.length } : await this.store.stat(key)
      return there && { ...there, value: undefined, damage: this.#damaged(key, there.etag, error) }
    }
  }

  /**
   * As `look`, for one who writes next, also over a damaged record. Where nothing is, a tombstone
   * is made first on a store that takes tombstones away: there a record that comes and goes would
   * leave "nothing" again, and a late write over nothing would not fail.
   */
  async findToWrite(key: string): Promise<Found<T> | undefined> {
    for (;;) {
      const seen = await this.look(key)
      if (seen || !conditionalRemove(this.store)) return seen
      await this.#put(key, undefined, undefined)
    }
  }

  /**
   * Changes nothing but the ETag, so that a write of someone who has read the record before fails.
   * Where nothing is there will be a tombstone. What is damaged stays so: a tombstone would say
   * that it is gone. Where another writes meanwhile, that does it.
   */
  async renew(key: string): Promise<void> {
    const seen = await this.look(key)
    if (seen?.damage) await this.#renewDamaged(key, seen.etag)
    else await this.#put(key, seen?.value, seen)
  }

  /** The value; a tombstone's as an absent record's is `undefined`. */
  async read(key: string): Promise<T | undefined> {
    return (await this.find(key))?.value
  }

  /** Writes over `seen`, which is what `find` or `look` gave; `undefined`: it has changed since. */
  async write(key: string, value: T, seen: Found<T> | undefined): Promise<Etag | undefined> {
    return this.#put(key, value, seen)
  }

  /**
   * Ends the record if it is still as seen. On a store with a lock of its own nothing is left;
   * elsewhere the tombstone stays.
   */
  async retire(key: string, seen: Found<T>): Promise<boolean> {
    const locked = conditionalRemove(this.store)
    if (locked) return locked.removeUnchanged(key, seen.etag)
    return (await this.#put(key, undefined, seen)) !== undefined
  }

  /**
   * Changes the record by compare-and-set, as often as it takes. `change` sees the value
   * (`undefined`: none) and gives the next one, `GONE`, or `undefined` to leave it as it is; it may
   * be called several times. The promise is of the value that stands then.
   * @throws StrataError `store_unavailable` if others were quicker 100 times
   */
  async update(key: string, change: (value: T | undefined) => T | typeof GONE | undefined): Promise<T | undefined> {
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      if (attempt > 1) await delay(Math.random() * Math.min(2 ** attempt, 50))
      const seen = await this.find(key)
      const next = change(seen?.value)
      if (next === undefined) return seen?.value
      if (next === GONE) {
        if (seen?.value === undefined || (await this.retire(key, seen))) return undefined
      } else if (await this.write(key, next, seen)) return next
    }
    throw changedTooOften(key)
  }

  /**
   * All records below a prefix, tombstones left out, in the order of their keys. ETag and size
   * (bytes as stored) are of the value given. Those of `known` (by key) that the list shows with
   * the ETag they had are not read again: no two writes have one. Damaged ones are given to
   * `onDamaged` in between: whoever deletes what no record names must not leave that out.
   */
  async *list(
    prefix: string,
    { known, onDamaged }: { known?: ReadonlyMap<string, ListedRecord<T>>; onDamaged?: OnDamaged } = {},
  ): AsyncGenerator<ListedRecord<T>> {
    for await (const { key, size, etag } of listAll(this.store, prefix)) {
      // On a store where tombstones stay there may be many: the list alone tells them.
      if (size === TOMBSTONE_BYTES) continue
      const same = known?.get(key)
      if (same?.etag === etag) {
        yield same
        continue
      }
      const seen = await this.look(key)
      if (seen?.damage) onDamaged?.({ key, etag: seen.etag, size: seen.size, damage: seen.damage })
      else if (seen?.value !== undefined) yield { key, value: seen.value, etag: seen.etag, size: seen.size }
    }
  }

  async #renewDamaged(key: string, etag: Etag): Promise<void> {
    const object = await this.store.read(key, MAX_RECORD_BYTES).catch((error: unknown) => {
      if (error instanceof StrataError && error.code === 'limit_exceeded') return undefined
      throw error
    })
    // For a person who looks at it. A tombstone's length would make it one in lists.
    const kept = object?.bytes.subarray(0, MAX_RECORD_BYTES / 2) ?? Buffer.alloc(0)
    const mark = Buffer.from(`\nrenewed ${freshRev()}`)
    const isLikeTombstone = kept.length + mark.length === TOMBSTONE_BYTES
    await this.store.replace(key, Buffer.concat([kept, mark, Buffer.from(isLikeTombstone ? '\n' : '')]), etag)
  }

  #damaged(key: string, etag: Etag, cause: StrataError): StrataError {
    const damage = new StrataError('corrupt', [cause.message, this.remedy?.(key)].filter(Boolean).join(': '), { cause })
    const state = `${key} ${etag}`
    if (!told.has(state)) {
      if (told.size >= MOST_TOLD) told.clear()
      told.add(state)
      process.emitWarning(damage.message)
    }
    return damage
  }

  async #put(key: string, value: T | undefined, seen: Found<T> | undefined): Promise<Etag | undefined> {
    const bytes = encode(value)
    if (bytes.length > MAX_RECORD_BYTES)
      throw new StrataError(
        'limit_exceeded',
        `${this.what} ${key} would have ${bytes.length} bytes; at most ${MAX_RECORD_BYTES} are allowed`,
      )
    return seen ? this.store.replace(key, bytes, seen.etag) : this.store.create(key, bytes)
  }

  #decode(key: string, bytes: Buffer): T | undefined {
    const { value } = parseJson(envelopeSchema, bytes, `${this.what} ${key}`, 'corrupt')
    if (value === undefined) return undefined
    const parsed = this.schema.safeParse(value)
    if (!parsed.success)
      throw new StrataError(
        'corrupt',
        `${this.what} ${key} is not of its shape: ${parsed.error.issues[0]?.message ?? 'unknown'}`,
      )
    return parsed.data
  }
}

type OnDamaged = (record: DamagedRecord) => void

/** Damaged records that this process has named in its log. */
const told = new Set<string>()
const MOST_TOLD = 1_000

function freshRev(): string {
  return randomBytes(12).toString('base64url')
}

function encode(value: unknown): Buffer {
  return Buffer.from(JSON.stringify({ rev: freshRev(), value }))
}

/** What `Records` writes where a record is gone; also a mark that counts by being there. */
export function tombstone(): Buffer {
  return encode(undefined)
}

/** How many bytes the value has as a record in the store. */
export function recordBytes(value: unknown): number {
  return encode(value).length
}

/** All tombstones have this size, and nothing else has. */
export const TOMBSTONE_BYTES = tombstone().length

export function changedTooOften(key: string): StrataError {
  return new StrataError(
    'store_unavailable',
    `the record ${key} was changed by others ${CAS_ATTEMPTS} times while it was to be written`,
  )
}
