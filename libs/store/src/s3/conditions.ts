import { randomUUID } from 'node:crypto'
import { StrataError } from '@strata/base'
import type { Etag, ObjectStore } from '../objects/object-store.js'
import { S3Failure } from './s3-failure.js'

/**
 * Prefix of the objects with which a start tests the server. They belong to the driver: lists do
 * not show them.
 */
export const PROBES = 'probe/'

/**
 * A probe that is older than this belongs to no start that is under way. The clocks of server and
 * client differ by at most 15 minutes: S3 refuses signatures beyond that.
 */
export const PROBE_LIFETIME_MS = 60 * 60_000

/**
 * Tests whether the server obeys `If-None-Match: *` and `If-Match` on a PUT. Every record of the
 * store rests on both. A server that does not know them ignores them and answers 200: then two
 * loads set one tag, and a collector deletes what a load has just come to hold.
 *
 * Makes one object under a key of its own, so several starts do not disturb each other, and deletes
 * it. If a start dies in between, a start that comes an hour later deletes it. That one of several
 * simultaneous writers wins is not tested: one client cannot prove it.
 *
 * @throws StrataError `store_unavailable` if the server ignores or refuses a condition, or does not
 * answer; `storage_full` if nothing could be tried, because the server has no space for the object
 */
export async function tryConditions(store: ObjectStore, endpoint: string): Promise<void> {
  const key = `${PROBES}${randomUUID()}`
  const condition = async (header: string, write: () => Promise<Etag | undefined>): Promise<Etag | undefined> =>
    write().catch((error: unknown) => {
      throw error instanceof Error && isRefusal(error.cause) ? unusable(endpoint, `refuses ${header}`) : error
    })
  const create = (text: string) => condition('If-None-Match', () => store.create(key, Buffer.from(text)))
  const replace = (text: string, etag: Etag) => condition('If-Match', () => store.replace(key, Buffer.from(text), etag))

  const first = await create('first')
  if (first === undefined) throw unusable(endpoint, 'says that a new key exists (If-None-Match)')
  try {
    if ((await create('again')) !== undefined) throw unusable(endpoint, 'ignores If-None-Match')
    if ((await replace('second', first)) === undefined)
      throw unusable(endpoint, 'does not know its own ETag (If-Match)')
    if ((await replace('third', first)) !== undefined) throw unusable(endpoint, 'ignores If-Match')
  } finally {
    // If it cannot be deleted now, a later start deletes it.
    await store.delete([key]).catch(() => undefined)
  }
}

/** Whether the server answered that it does not implement a header. */
function isRefusal(error: unknown): boolean {
  return error instanceof S3Failure && (error.status === 501 || error.code === 'NotImplemented')
}

function unusable(endpoint: string, what: string): StrataError {
  const message =
    `the S3 server at ${endpoint} ${what} on a PUT, so it cannot keep Strata's records: ` +
    'use a server with conditional writes, or a newer release of this one (docs/storage.md, "S3")'
  return new StrataError('store_unavailable', message)
}
