import { setTimeout as delay } from 'node:timers/promises'
import type { S3Client } from './s3-client.js'

/** How much longer the caller of a failed `put` waits for the clean-up, in ms. */
const SOON_MS = 1_500
/** How long the clean-up itself may take, in ms. */
const LIMIT_MS = 30_000

/**
 * Runs a clean-up after a write, and waits for it for a short time: on a slow server it goes on
 * after that. If the server does not answer at all, the remains stay, and the storage service finds
 * them later.
 */
export async function soon(work: (limit: AbortSignal) => Promise<void>): Promise<void> {
  const over = new AbortController()
  const done = work(AbortSignal.timeout(LIMIT_MS)).catch(() => undefined)
  const waited = delay(SOON_MS, undefined, { signal: over.signal }).catch(() => undefined)
  await Promise.race([done, waited])
  over.abort()
}

/** Deletes one object, if it is there. */
export async function remove(client: S3Client, key: string, signal: AbortSignal): Promise<void> {
  await client.attempt(() => client.send({ method: 'DELETE', key, signal }), { signal })
}
