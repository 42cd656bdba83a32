import type { S3Client } from './s3-client.js'

/** Whoever waits for a failed `put` to end is not to wait much longer. */
const SOON_MS = 1_500

/**
 * Tries to take away what a write leaves, for a short time: on a server that is away it stays, and
 * the storage service's sweep finds it later.
 */
export async function soon(work: (limit: AbortSignal) => Promise<void>): Promise<void> {
  await work(AbortSignal.timeout(SOON_MS)).catch(() => undefined)
}

/** Deletes one object, if it is there. */
export async function remove(client: S3Client, key: string, signal: AbortSignal): Promise<void> {
  await client.attempt(() => client.send({ method: 'DELETE', key, signal }), { signal })
}
