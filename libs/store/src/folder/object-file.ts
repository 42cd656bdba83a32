import { createHash } from 'node:crypto'
import { fstatSync, openSync, closeSync, readFileSync, type BigIntStats } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { MAX_RECORD_BYTES, type Etag, type ObjectInfo } from '../objects/object-store.js'

/**
 * An open file of an object. `bytes` is its content if it is small enough to be a record. The
 * caller closes `handle`.
 */
export interface OpenObject extends ObjectInfo {
  readonly handle: FileHandle
  readonly bytes: Buffer | undefined
}

/** `undefined` if there is none. */
export async function openObject(path: string): Promise<OpenObject | undefined> {
  const handle = await open(path, 'r').catch(ifAbsent)
  if (!handle) return undefined
  try {
    const stat = await handle.stat({ bigint: true })
    const bytes = stat.size <= MAX_RECORD_BYTES ? await handle.readFile() : undefined
    return { handle, bytes, size: Number(stat.size), etag: bytes ? contentEtag(bytes) : fileEtag(stat) }
  } catch (error) {
    await handle.close()
    throw error
  }
}

export async function statObject(path: string): Promise<ObjectInfo | undefined> {
  const object = await openObject(path)
  await object?.handle.close()
  return object && { size: object.size, etag: object.etag }
}

/**
 * The same as `statObject`, synchronously: for the moment under a lock between a check and the
 * change that depends on it, and for lists, which are long.
 */
export function statNow(path: string): ObjectInfo | undefined {
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch (error) {
    return ifAbsent(error)
  }
  try {
    const stat = fstatSync(fd, { bigint: true })
    return {
      size: Number(stat.size),
      etag: stat.size <= MAX_RECORD_BYTES ? contentEtag(readFileSync(fd)) : fileEtag(stat),
    }
  } finally {
    closeSync(fd)
  }
}

/** The ETag of a small object follows from its content, as on S3. */
export function contentEtag(bytes: Uint8Array): Etag {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 32) as Etag
}

/**
 * A larger object is not read for its ETag. It is never changed, so the file itself identifies it.
 */
function fileEtag(stat: BigIntStats): Etag {
  return `${stat.ino}-${stat.size}-${stat.mtimeNs}` as Etag
}

export function isErrno(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}

function ifAbsent(error: unknown): undefined {
  if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
  throw error
}
