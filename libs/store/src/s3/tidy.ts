import type { S3Client } from './s3-client.js'

/** How much longer the caller of a failed `put` waits for the clean-up, in ms. */
const SOON_MS = 1_500

/**
 * Runs a clean-up after a write, for a short time. If the server does not answer, the remains stay,
 * and the storage service finds them later.
 */
export async function soon(work: (limit: AbortSignal) => Promise<void>): Promise<void> {
  await work(AbortSignal.timeout(SOON_MS)).catch(() => undefined)
}

/** Deletes one object, if it is there. */
export async function remove(client: S3Client, key: string, signal: AbortSignal): Promise<void> {
  await client.attempt(() => client.send({ method: 'DELETE', key, signal }), { signal })
}
