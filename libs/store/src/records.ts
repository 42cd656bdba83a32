import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { atMostOf, StrataError } from '@strata/base'
import { ONE_ISSUE, parseJson } from '@strata/oci'
import { z } from 'zod'
import {
  conditionalRemove,
  listAll,
  MAX_RECORD_BYTES,
  type Etag,
  type ListedObject,
  type ObjectStore,
} from './objects/object-store.js'

/**
 * A record as it was read. `value` is `undefined` for a tombstone (the record was there and is
 * gone) and for a damaged record.
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
 * An object at a record's key that cannot be read as a record: after a bad sector, a wrong restore,
 * or a write by another program. Its content is not known. So no caller may treat it as if it said
 * nothing.
 */
export interface DamagedRecord {
  readonly key: string
  readonly etag: Etag
  readonly size: number
  readonly damage: StrataError
}

/** The function that `update` calls returns this to end the record (`Records.retire`). */
export const GONE = Symbol('gone')

/**
 * Attempts of a compare-and-set loop. Eight writers of one record need a handful. A loop that needs
 * more than this shows a fault.
 */
export const CAS_ATTEMPTS = 100
/** Records of a list that are read at the same time: on S3 each takes a request. */
const LOOKS_AT_ONCE = 16

const envelopeSchema = z.object({ rev: z.string(), value: z.unknown().optional() })

/**
 * JSON objects of one shape, changed by compare-and-set only. As stored: `{"rev": <random>,
 * "value": {…}}`; a tombstone has no `value`. No value is written that could not be read again.
 *
 * `rev` is fresh in each write, so no two writes have the same ETag. Without it, a record that
 * changed from A to B and back to A would accept a `replace` by a writer that saw only the first A
 * (tried on MinIO). Every object of the store that can change is written by this class only.
 *
 * A damaged record is reported by a process warning, once for each of its states. A list of the
 * other records goes on. The damaged record can be written over, and it can be retired by its key.
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

  /** As `find`, but gives a damaged record too, with `damage` set. */
  async look(key: string): Promise<(Found<T> & { readonly size: number }) | undefined> {
    let object: { readonly bytes: Buffer; readonly etag: Etag } | undefined
    try {
      const found = (object = await this.store.read(key, MAX_RECORD_BYTES))
      if (!found) return undefined
      return {
        value: this.#decode(key, found.bytes),
        size: found.bytes.length,
        // A store may make it when it is asked for.
        get etag() {
          return found.etag
        },
      }
    } catch (error) {
      if (!(error instanceof StrataError && ['corrupt', 'limit_exceeded'].includes(error.code))) throw error
      const there = object ? { etag: object.etag, size: object.bytes.length } : await this.store.stat(key)
      return there && { ...there, value: undefined, damage: this.#damaged(key, there.etag, error) }
    }
  }

  /**
   * As `look`, for a caller that writes the record next, also over a damaged one. If nothing is
   * there, and the store deletes tombstones, it makes a tombstone first. Otherwise another writer
   * could make and remove the record in between. That would leave nothing again, and a late write
   * over nothing would not fail.
   */
  async findToWrite(key: string): Promise<Found<T> | undefined> {
    for (;;) {
      const seen = await this.look(key)
      if (seen || !conditionalRemove(this.store)) return seen
      const etag = await this.#put(key, undefined, undefined)
      if (etag !== undefined) return { value: undefined, etag }
    }
  }

  /**
   * Changes the ETag and nothing else, so that a write fails if its writer read the record before.
   * An absent record becomes a tombstone. A damaged record stays damaged: a tombstone would say
   * that it is gone. If another writer is first, its write has the same effect.
   */
  async renew(key: string): Promise<void> {
    const seen = await this.look(key)
    if (seen?.damage) await this.#renewDamaged(key, seen.etag)
    else await this.#put(key, seen?.value, seen)
  }

  /**
   * The value; `undefined` for an absent record and for a tombstone.
   * @throws StrataError `corrupt` if what is there is damaged
   */
  async read(key: string): Promise<T | undefined> {
    return (await this.find(key))?.value
  }

  /**
   * Writes over `seen`, which `find`, `look` or `findToWrite` gave. Gives the new ETag, or
   * `undefined` if the record has changed since it was seen.
   */
  async write(key: string, value: T, seen: Found<T> | undefined): Promise<Etag | undefined> {
    return this.#put(key, value, seen)
  }

  /**
   * @throws StrataError `limit_exceeded` if this value is too large for a record; `internal` if it
   * could not be read again
   */
  expectFits(key: string, value: T): void {
    this.#encoded(key, value)
  }

  /**
   * Ends the record if it is still as it was seen; `false` if it has changed. A store with
   * `ConditionalRemove` keeps nothing of it. On other stores a tombstone stays.
   */
  async retire(key: string, seen: Found<T>): Promise<boolean> {
    const locked = conditionalRemove(this.store)
    if (locked) return locked.removeUnchanged(key, seen.etag)
    return (await this.#put(key, undefined, seen)) !== undefined
  }

  /**
   * Changes the record by compare-and-set, and tries again when another writer was first. `change`
   * gets the value (`undefined` if there is none). It returns the next value, `GONE`, or
   * `undefined` to leave the record as it is. It may be called several times. Resolves with the
   * value that the record has then.
   * @throws StrataError `corrupt` if what is there is damaged; `store_unavailable` if another
   * writer was first 100 times
   */
  async update(key: string, change: (value: T | undefined) => T | typeof GONE | undefined): Promise<T | undefined> {
    for (let attempt = 0; attempt < CAS_ATTEMPTS; attempt++) {
      await beforeAttempt(attempt)
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
   * All records below a prefix, without tombstones, in the order of their keys. ETag and size
   * (bytes as stored) are those of the value given. What `isKnown` of a key and the ETag of the
   * list is neither read nor given. Damaged records are given to `onDamaged` in between. A caller
   * that deletes what no record names must pass `onDamaged`.
   */
  async *list(
    prefix: string,
    { isKnown, onDamaged }: { isKnown?: (key: string, etag: Etag) => boolean; onDamaged?: OnDamaged } = {},
  ): AsyncGenerator<ListedRecord<T>> {
    const records = atMostOf(LOOKS_AT_ONCE, this.#listed(prefix, isKnown), async ({ key }) => ({
      key,
      seen: await this.look(key),
    }))
    for await (const { key, seen } of records)
      if (seen?.damage) onDamaged?.({ key, etag: seen.etag, size: seen.size, damage: seen.damage })
      else if (seen?.value !== undefined) yield { key, value: seen.value, etag: seen.etag, size: seen.size }
  }

  async *#listed(
    prefix: string,
    isKnown: (key: string, etag: Etag) => boolean = () => false,
  ): AsyncGenerator<ListedObject> {
    for await (const object of listAll(this.store, prefix))
      // Where tombstones stay, there may be many. Their size shows them, so they are not read.
      if (object.size !== TOMBSTONE_BYTES && !isKnown(object.key, object.etag)) yield object
  }

  async #renewDamaged(key: string, etag: Etag): Promise<void> {
    const object = await this.store.read(key, MAX_RECORD_BYTES).catch((error: unknown) => {
      if (error instanceof StrataError && error.code === 'limit_exceeded') return undefined
      throw error
    })
    // The first bytes stay, for a person who examines the object. Lists recognise a tombstone by
    // its size, so a damaged record must not have that size.
    const kept = object?.bytes.subarray(0, MAX_RECORD_BYTES / 2) ?? Buffer.alloc(0)
    const mark = Buffer.from(`\nrenewed ${freshRev()}`)
    const isLikeTombstone = kept.length + mark.length === TOMBSTONE_BYTES
    await this.store.replace(key, Buffer.concat([kept, mark, Buffer.from(isLikeTombstone ? '\n' : '')]), etag)
  }

  #damaged(key: string, etag: Etag, cause: StrataError): StrataError {
    const damage = new StrataError('corrupt', [cause.message, this.remedy?.(key)].filter(Boolean).join(': '), { cause })
    const state = `${key} ${etag}`
    if (!reported.has(state)) {
      if (reported.size >= MOST_REPORTED) reported.clear()
      reported.add(state)
      process.emitWarning(damage.message)
    }
    return damage
  }

  /**
   * What is written. It was read once from these bytes, so no write makes a damaged record: a
   * number can be right for its type, and beyond what the schema takes.
   */
  #encoded(key: string, value: T | undefined): Buffer {
    const bytes = encode(value)
    if (bytes.length > MAX_RECORD_BYTES)
      throw new StrataError(
        'limit_exceeded',
        `${this.what} ${key} would have ${bytes.length} bytes; at most ${MAX_RECORD_BYTES} are allowed`,
      )
    try {
      this.#decode(key, bytes)
    } catch (error) {
      throw new StrataError('internal', `${this.what} ${key} is not written: it could not be read again`, {
        cause: error,
      })
    }
    return bytes
  }

  async #put(key: string, value: T | undefined, seen: Found<T> | undefined): Promise<Etag | undefined> {
    const bytes = this.#encoded(key, value)
    return seen ? this.store.replace(key, bytes, seen.etag) : this.store.create(key, bytes)
  }

  #decode(key: string, bytes: Buffer): T | undefined {
    const { value } = parseJson(envelopeSchema, bytes, `${this.what} ${key}`, 'corrupt')
    if (value === undefined) return undefined
    const parsed = this.schema.safeParse(value, ONE_ISSUE)
    if (!parsed.success)
      throw new StrataError(
        'corrupt',
        `${this.what} ${key} does not have the form of such a record: ${parsed.error.issues[0]?.message ?? 'unknown'}`,
      )
    return parsed.data
  }
}

type OnDamaged = (record: DamagedRecord) => void

/** Damaged records that this process has reported, each by key and ETag. */
const reported = new Set<string>()
const MOST_REPORTED = 1_000

function freshRev(): string {
  return randomBytes(12).toString('base64url')
}

function encode(value: unknown): Buffer {
  return Buffer.from(JSON.stringify({ rev: freshRev(), value }))
}

/** The bytes of a tombstone. A mark has the same bytes: it counts because it exists. */
export function tombstone(): Buffer {
  return encode(undefined)
}

/** How many bytes the value has as a record in the store. */
export function recordBytes(value: unknown): number {
  return encode(value).length
}

/**
 * Every tombstone has this size. No record with a value has it, and no damaged record that was
 * renewed.
 */
export const TOMBSTONE_BYTES = tombstone().length

/**
 * Waits before a further attempt of a compare-and-set loop, so that its writers do not meet again:
 * 50 ms at most.
 */
export async function beforeAttempt(attempt: number): Promise<void> {
  if (attempt > 1) await delay(Math.random() * Math.min(2 ** attempt, 50))
}

/** The error that `CAS_ATTEMPTS` attempts to write a record have failed. */
export function changedTooOften(key: string): StrataError {
  return new StrataError(
    'store_unavailable',
    `the record ${key} was changed by other writers ${CAS_ATTEMPTS} times before it could be written: try again`,
  )
}
