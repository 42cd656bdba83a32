import type { Readable } from 'node:stream'

/**
 * Names one state of one object. Compared for equality only, and only between tags of the same key.
 */
export type Etag = string & { readonly __brand: 'Etag' }

/** What is known of an object without its bytes. `size` in bytes. */
export interface ObjectInfo {
  readonly size: number
  readonly etag: Etag
}
export interface ListedObject extends ObjectInfo {
  readonly key: string
}
/** `next` is there when more objects may follow: pass it as `after`. */
export interface ObjectPage {
  readonly objects: ListedObject[]
  readonly next?: string
}
/** Bytes `start` to `end`, counted from 0, `end` exclusive, as in `subarray`. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/**
 * Objects under keys: what a folder and every S3 server can do, and nothing more. This comment is
 * the specification; `@strata/store/testing` is its test, which every driver passes.
 *
 * **Keys** follow `checkKey` (keys.ts); a driver refuses others with `bad_request`. No key is a
 * folder of another (`a` and `a/b`): a folder could not hold both.
 *
 * **Two kinds of objects.**
 * - *Bytes*, written by `put` under a key that is fresh (it holds an id made for this one write)
 *   and written once. A put to a key that was used is a fault of the caller: a driver may refuse
 *   it, and may as well overwrite.
 * - *Records*, small (at most `MAX_RECORD_BYTES`) and known by content or by a user's name, so that
 *   many may write them at once. They change by `create` (nothing may be there) and `replace` (what
 *   is there must be what was read) only. Both are atomic, across processes and machines. What
 *   follows from its key and is never replaced (a layer's index) is written by `create` too, and
 *   may be larger.
 *
 * **ETags.** As on S3, a record's is the hash of its content: written A, B, A again, it has the
 * first tag again, and a `replace` that should have failed succeeds. So every record carries a
 * fresh random `rev` in each write; `Records` (records.ts) sees to it, and nothing else writes
 * records.
 *
 * **What a reader sees.** An object as one finished write left it, whole, or nothing: while a
 * writer writes, and after it failed, was aborted or died, a new key is absent and a replaced one
 * has its old content. A body that is being read goes on to its end when the object is replaced or
 * deleted (a driver that cannot promise that fails the body; it never mixes two states). A finished
 * write is seen by every later read and list.
 *
 * **Deletes** carry no condition, S3 has none that can be relied on. So only keys with a fresh id
 * in them (`data/`, `uploads/`) are deleted: nobody will write them again. A key named by content
 * or by a user ends as a tombstone, a record that says it is gone; a driver with a lock of its own
 * offers `ConditionalRemove` to take that away too.
 *
 * **Errors**: absent is `undefined`, never an error. `bad_request` for a key or range out of
 * bounds, `storage_full`, `store_unavailable` for all else that the store's machine or network
 * does, `cancelled` when the signal aborted, `limit_exceeded` for an object larger than the reader
 * allows. An error of a `put`'s source comes out as it is.
 */
export interface ObjectStore {
  /**
   * Writes bytes under a fresh key, in flat memory, whatever the stream's length. The source is
   * pulled only as fast as it can be written. A chunk is lent: its memory is the source's again, to
   * be written over, when the next one is asked for. If it fails, or `signal` aborts, the promise
   * rejects, the source is told (`return()`, if it was begun), and nothing is left in the store.
   */
  put(key: string, source: ByteSource, options?: { signal?: AbortSignal }): Promise<ObjectInfo>
  /**
   * The object's bytes as a stream, all of them or a range; `size` is the whole object's. A range
   * is clipped to the object: one that begins at or behind its end is empty. The caller reads the
   * body to its end or destroys it.
   */
  get(key: string, range?: ByteRange): Promise<(ObjectInfo & { readonly body: Readable }) | undefined>
  /** The whole object in memory; `limit_exceeded` if it has more than `maxBytes`. */
  read(key: string, maxBytes: number): Promise<{ readonly bytes: Buffer; readonly etag: Etag } | undefined>
  stat(key: string): Promise<ObjectInfo | undefined>
  /** Writes if nothing is there. `undefined`: something is. Of any number at once, one wins. */
  create(key: string, bytes: Uint8Array): Promise<Etag | undefined>
  /**
   * Writes if the object's tag is still `etag`. `undefined`: it has changed or is gone. Of any
   * number with one tag, one wins.
   */
  replace(key: string, bytes: Uint8Array, etag: Etag): Promise<Etag | undefined>
  /**
   * Objects whose keys begin with `prefix` (any string that can begin a key) and come behind
   * `after`, in the order of the keys' bytes, at most `limit` (1,000 unless told; a driver may give
   * fewer, with `next`). What exists from before the first page until after the last is listed;
   * what comes or goes meanwhile may be.
   */
  list(prefix: string, options?: { after?: string; limit?: number }): Promise<ObjectPage>
  /** Deletes what is there of `keys`; idempotent. For keys with a fresh id only (see above). */
  delete(keys: readonly string[]): Promise<void>
  /**
   * Waits for nothing: what is under way elsewhere ends by itself. After it, no method may be
   * called.
   */
  close(): Promise<void>
}

export type ByteSource = AsyncIterable<Uint8Array> | Uint8Array

/** Records above this could not be compared by content on every driver. */
export const MAX_RECORD_BYTES = 256 * 1024

/**
 * An ability of stores whose objects are files of this machine: they can be written in place by
 * threads, hard-linked into a node's own folder, and mapped. S3 has none of it; whoever uses it has
 * another way for stores without (`localObjects(store)` is `undefined`).
 */
export interface LocalObjects {
  /** Where the object is, or would be. The file is read-only and never changed. */
  localPath(key: string): string
  /**
   * Makes an empty file for a fresh key and returns its path, for the caller to open and fill.
   * Departure from the law above: the object can be seen while it is written. That is harmless for
   * `data/` keys only, which nobody knows before a record names them.
   */
  createLocal(key: string): Promise<string>
  /** The writer is done: the file becomes read-only (0444) and counts as committed. */
  sealLocal(key: string): Promise<ObjectInfo>
}

export function localObjects(store: ObjectStore): (ObjectStore & LocalObjects) | undefined {
  return 'createLocal' in store ? (store as ObjectStore & LocalObjects) : undefined
}

/**
 * An ability of stores with a lock of their own: a delete that checks, so that tombstones need not
 * stay.
 */
export interface ConditionalRemove {
  /** Deletes the object if its tag is still `etag`; `false` if it has changed or is gone. */
  removeUnchanged(key: string, etag: Etag): Promise<boolean>
}

export function conditionalRemove(store: ObjectStore): (ObjectStore & ConditionalRemove) | undefined {
  return 'removeUnchanged' in store ? (store as ObjectStore & ConditionalRemove) : undefined
}

/** An ability of stores that can let others read: S3 servers. */
export interface PresignedReads {
  /**
   * A URL with which anybody may read the object, whole or a range, for so many seconds (at most 7
   * days). Nothing is asked: the object may be absent.
   */
  presignedGet(key: string, seconds: number): Promise<string>
}

/** A `put` that is under way, or whose process died. It takes space and is no object. */
export interface PartialUpload {
  readonly key: string
  /** By the server's clock. */
  readonly startedAt: Date
  /** Bytes that it takes: of what was written of it so far. */
  size(): Promise<number>
  /** Takes it away; a `put` that still writes it fails. Idempotent. */
  abort(): Promise<void>
}

/**
 * An ability of stores in which a writer that died leaves something that is no object: unfinished
 * multipart uploads stay until somebody aborts them.
 */
export interface PartialUploads {
  /** Those below a prefix, all unless told. Slow, as every list is. */
  listPartial(prefix?: string): AsyncGenerator<PartialUpload>
}

export function partialUploads(store: ObjectStore): (ObjectStore & PartialUploads) | undefined {
  return 'listPartial' in store ? (store as ObjectStore & PartialUploads) : undefined
}

/** All pages of a list, one after the other. */
export async function* listAll(store: ObjectStore, prefix: string): AsyncGenerator<ListedObject> {
  let after: string | undefined
  do {
    const page = await store.list(prefix, after === undefined ? {} : { after })
    yield* page.objects
    after = page.next
  } while (after !== undefined)
}
