import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { asStrataError, StrataError } from '@strata/base'
import { algorithmOf, digestFromHex, type DiffId, type Digest } from '@strata/oci'
import { lentChunks } from '@strata/store'

/**
 * A plain layer of which the store has the index: its blob is its tar. It only has to be hashed and
 * written, so this needs no thread. Each chunk is hashed while it is written.
 * @throws StrataError `corrupt` if the bytes are not the blob's. The file is the caller's to remove
 * then.
 */
export async function fetchPlain(blob: Digest, tar: string, source: Readable, signal: AbortSignal): Promise<DiffId> {
  const hash = createHash(algorithmOf(blob))
  const stop = (): void => void source.destroy(asStrataError(signal.reason))
  signal.addEventListener('abort', stop)
  // Its error is the iteration's to tell, which listens in its turns only.
  source.on('error', () => undefined)
  try {
    signal.throwIfAborted()
    await using file = await open(tar, 'wx', 0o600)
    for await (const chunk of lentChunks(source)) {
      const written = file.write(chunk)
      hash.update(chunk)
      for (let at = (await written).bytesWritten; at < chunk.length;) at += (await file.write(chunk, at)).bytesWritten
    }
    const found = digestFromHex(hash.digest('hex'))
    if (found !== blob)
      throw new StrataError('corrupt', `the layer ${blob} in the store is damaged: its bytes are ${found}`)
    return found as DiffId
  } catch (error) {
    signal.throwIfAborted()
    throw error
  } finally {
    signal.removeEventListener('abort', stop)
    source.destroy()
  }
}
