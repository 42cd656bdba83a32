import type { FileHandle } from 'node:fs/promises'
import type { Readable } from 'node:stream'

/**
 * Identifies one state of one object. Compare it only for equality, and only with ETags of the same
 * key.
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
 * - *Records*, small (at most `MAX_RECORD_BYTES`), under a key that follows from their content or
 *   from a user's name. So several writers may write one at the same time. A record changes by
 *   `create` (nothing may be there) and `replace` (what is there must be what was read) only. Both
 *   are atomic, across processes and machines. An object that follows from its key and is never
 *   replaced (a layer's index) is written by `create` too, and may be larger.
 *
 * **ETags.** As on S3, a record's ETag is the hash of its content. A record that changed from A to
 * B and back to A has its first ETag again, and a `replace` succeeds that should fail. So each
 * write gives a record a fresh random `rev`. `Records` (records.ts) does that, and nothing else
 * writes records.
 *
 * **What a reader sees.** An object as one finished write left it, complete, or nothing. While a
 * writer writes, and after it failed, was aborted or died, a new key is absent and a replaced one
 * has its old content. A body that is being read goes on to its end when the object is replaced or
 * deleted. (A driver that cannot promise that fails the body; it never mixes two states.) Every
 * later read and list sees a finished write.
 *
 * **Deletes** have no condition, because S3 has none that can be relied on. So only keys with a
 * fresh id in them (`data/`, `uploads/`) are deleted: nobody writes them again. A key that follows
 * from content or from a user's name ends as a tombstone, a record that says that it is gone. A
 * driver with a lock of its own offers `ConditionalRemove`, which deletes that too.
 *
 * **Errors**: an absent object is `undefined`, never an error. `bad_request` for a key or range out
 * of bounds, `storage_full`, `cancelled` when the signal aborted, `limit_exceeded` for an object
 * larger than the reader allows, and `store_unavailable` for every other failure of the store's
 * machine or network. An error of a `put`'s source passes as it is.
 */
export interface ObjectStore {
  /**
   * Writes bytes under a fresh key. The memory that it takes does not depend on the length of the
   * stream, and the source is read only as fast as its bytes can be written. A chunk is lent: when
   * the next one is asked for, the source may write over the memory of the last. If the source
   * fails, or `signal` aborts, the promise rejects, `return()` of a source that was begun is
   * called, and nothing is left in the store.
   */
  put(key: string, source: ByteSource, options?: { signal?: AbortSignal }): Promise<ObjectInfo>
  /**
   * The object's bytes as a stream, all of them or a range. `size` is the size of the whole object.
   * A range is clipped to the object: one that begins at its end or behind it is empty. The caller
   * reads the body to its end or destroys it. `lentChunks` reads a large one faster.
   */
  get(key: string, range?: ByteRange): Promise<(ObjectInfo & { readonly body: Readable }) | undefined>
  /** The whole object in memory; `limit_exceeded` if it has more than `maxBytes`. */
  read(key: string, maxBytes: number): Promise<{ readonly bytes: Buffer; readonly etag: Etag } | undefined>
  stat(key: string): Promise<ObjectInfo | undefined>
  /**
   * Writes if nothing is there; `undefined` if something is. Of several calls at once, one
   * succeeds.
   */
  create(key: string, bytes: Uint8Array): Promise<Etag | undefined>
  /**
   * Writes if the object's ETag is still `etag`; `undefined` if it has changed or is gone. Of
   * several calls with one ETag, one succeeds.
   */
  replace(key: string, bytes: Uint8Array, etag: Etag): Promise<Etag | undefined>
  /**
   * Objects whose keys begin with `prefix` (any string that can begin a key) and sort behind
   * `after`, in the order of the keys' bytes. A page has at most `limit` of them (default 1,000). A
   * driver may give fewer, even none, with `next`. What exists from before the first page until
   * after the last is listed. What is made or deleted meanwhile may be listed or not.
   */
  list(prefix: string, options?: { after?: string; limit?: number }): Promise<ObjectPage>
  /**
   * Deletes the objects with these keys; an absent one is no error. For keys with a fresh id only
   * (see above).
   */
  delete(keys: readonly string[]): Promise<void>
  /**
   * Ends the use of the store and waits for nothing: operations that other calls began end by
   * themselves. No method may be called after it.
   */
  close(): Promise<void>
}

/** The bytes of a `put`: a stream, or bytes in memory. */
export type ByteSource = AsyncIterable<Uint8Array> | Uint8Array

/** A larger record could not be compared by content on every driver. */
export const MAX_RECORD_BYTES = 256 * 1024

/**
 * An ability of stores whose objects are files of this machine: threads write them in place, a node
 * hard-links them into its own folder, and they can be mapped. S3 has none of it
 * (`localObjects(store)` is `undefined`), so each user of it has another way for such stores.
 */
export interface LocalObjects {
  /** The path of the object, whether it exists or not. Its file is read-only and never changed. */
  localPath(key: string): string
  /**
   * Opens the object's file to be read; `size` is the object's. The file can be read to its end
   * also if the object is deleted meanwhile. The caller closes it.
   */
  openLocal(key: string): Promise<{ readonly file: FileHandle; readonly size: number } | undefined>
  /**
   * Makes an empty file for a fresh key and returns its path. The caller opens and fills it. This
   * departs from the law above: the object can be seen while it is written. That is harmless for
   * `data/` keys only, which nobody knows before a record names them.
   */
  createLocal(key: string): Promise<string>
  /** Commits a file that its writer has filled: it becomes read-only (0444). */
  sealLocal(key: string): Promise<ObjectInfo>
}

/** The store with this ability; `undefined` if it has not. */
export function localObjects(store: ObjectStore): (ObjectStore & LocalObjects) | undefined {
  return 'createLocal' in store ? (store as ObjectStore & LocalObjects) : undefined
}

/**
 * An ability of stores with a lock of their own: a delete with a condition. So tombstones need not
 * stay.
 */
export interface ConditionalRemove {
  /** Deletes the object if its tag is still `etag`; `false` if it has changed or is gone. */
  removeUnchanged(key: string, etag: Etag): Promise<boolean>
}

/** The store with this ability; `undefined` if it has not. */
export function conditionalRemove(store: ObjectStore): (ObjectStore & ConditionalRemove) | undefined {
  return 'removeUnchanged' in store ? (store as ObjectStore & ConditionalRemove) : undefined
}

/** Addresses at which others may read a store's objects: those of S3 servers. */
export interface PresignedReads {
  /**
   * A URL with which anybody may read the object, whole or a range, for so many seconds (at most 7
   * days). The server is not asked: the object may be absent.
   */
  presignedGet(key: string, seconds: number): Promise<string>
}

/** A `put` that is under way, or whose process died. It takes space and is no object. */
export interface PartialUpload {
  readonly key: string
  /** By the server's clock. */
  readonly startedAt: Date
  /** Bytes that the parts written so far take. */
  size(): Promise<number>
  /** Deletes what was written; a `put` that still writes it fails. Idempotent. */
  abort(): Promise<void>
}

/**
 * An ability of stores in which a writer that died leaves something that is no object: unfinished
 * multipart uploads stay until they are aborted.
 */
export interface PartialUploads {
  /**
   * The partial uploads of keys below a prefix; of all keys without one. Slow, as every list is.
   */
  listPartial(prefix?: string): AsyncGenerator<PartialUpload>
}

/** The store with this ability; `undefined` if it has not. */
export function partialUploads(store: ObjectStore): (ObjectStore & PartialUploads) | undefined {
  return 'listPartial' in store ? (store as ObjectStore & PartialUploads) : undefined
}

/**
 * An object that comes in several requests and is not whole yet: plain JSON, which its owner keeps
 * in a record, so that another process can go on. It is a value: each append gives the next one.
 */
export interface ContinuedPut {
  readonly key: string
  /** The server's name of it. */
  readonly uploadId: string
  /** What has come, in order. Sizes in bytes. */
  readonly parts: readonly { readonly etag: Etag; readonly size: number }[]
}

/**
 * An ability of stores that keep the parts of an object until it is whole: S3 servers, by multipart
 * uploads. Nothing is copied, at no step. (A folder does without: bytes that come in several
 * requests are pieces of a blob there. Decision 60.)
 *
 *     let put = await store.beginPut(key)
 *     put = await store.appendPut(put, source)     // by any process, at any time later
 *     const info = await store.completePut(put)    // now the object is there, whole
 *
 * **The object has exactly the parts that the state names, in their order, or there is none.** The
 * server compares the tag of each part. So a state that is behind (its process stood still) makes
 * a shorter object or none, and never one with other bytes.
 *
 * **One at a time appends.** If two processes append to one state, at most one of the states that
 * they get can be completed. If a process takes over from one that may still be sending, it
 * completes the state that is recorded and begins another object: the next piece of the blob.
 * Appending the same bytes to the same state again has the same effect as once.
 *
 * **Gone.** `appendPut` and `completePut` give `undefined` if nothing can come of the state any
 * more: it was aborted, its lease's bytes were deleted, it was completed with other parts, or
 * another process has sent other parts in the place of its own.
 *
 * **The state fits in a record.** It has at most `MAX_CONTINUED_PARTS` parts. A source that may be
 * longer than `roomIn` says is cut there: the put is completed, and the rest is the next piece.
 *
 * What is not completed is a `PartialUpload`: it goes with its lease, as other bytes do.
 */
export interface ContinuedPuts {
  /** The size in bytes that every part but the last must have. */
  readonly minPartBytes: number
  /** So many bytes can surely be appended in one call. Of a new put, some 8 GB. */
  roomIn(put: ContinuedPut): number
  beginPut(key: string, options?: { signal?: AbortSignal }): Promise<ContinuedPut>
  /**
   * Sends the source's bytes behind those that came, in flat memory. If it fails, or `signal`
   * aborts, the state that it was given is as good as before.
   * @throws StrataError `bad_request` if the last part has fewer than `minPartBytes`: nothing can
   * come behind it; `limit_exceeded` if the state would have more than `MAX_CONTINUED_PARTS` parts
   */
  appendPut(
    put: ContinuedPut,
    source: ByteSource,
    options?: { signal?: AbortSignal },
  ): Promise<ContinuedPut | undefined>
  /** May be run again. @throws StrataError `bad_request` if there are no parts */
  completePut(put: ContinuedPut): Promise<ObjectInfo | undefined>
  /** Idempotent. An object that was completed stays. */
  abortPut(put: ContinuedPut): Promise<void>
}

/**
 * 1,000 tags of 128 characters, and sizes, are 160 KiB of the 256 KiB that a record may have. The
 * tags of the known servers have 32.
 */
export const MAX_CONTINUED_PARTS = 1_000

export function continuedPuts(store: ObjectStore): (ObjectStore & ContinuedPuts) | undefined {
  return 'beginPut' in store ? (store as ObjectStore & ContinuedPuts) : undefined
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
