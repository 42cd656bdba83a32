import { hash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync, write as writeTo, type BigIntStats } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { promisify } from 'node:util'
import { MAX_RECORD_BYTES, type Etag, type ObjectInfo } from '../objects/object-store.js'

const write = promisify(writeTo)

/** An object as a look at its file found it. `bytes` is the content of a small object. */
export type SeenObject = ObjectInfo & ({ readonly bytes: Buffer } | { readonly bytes: undefined })

/**
 * Looks at an object, and reads it if it is small enough to be a record. `undefined` if there is
 * none.
 *
 * It is synchronous. The page cache answers in 20 µs, four trips to the thread pool take 400 µs,
 * and a load reads some fifty records one after another. The trap is a disk that is slow and cold:
 * it stops the event loop for the time of one read.
 */
export function lookNow(path: string): SeenObject | undefined {
  return withFile(path, (fd) => {
    // Nearly all objects end before the buffer, and need no question for their size.
    const read = readSync(fd, firstBytes, 0, firstBytes.length, 0)
    return read < firstBytes.length ? smallObject(Buffer.from(firstBytes.subarray(0, read))) : sizedObject(fd)
  })
}

/**
 * The same for who wants no bytes, as a list does. Of a large object nothing is read: a list of
 * layers that are not in memory would else read 16 KiB of each from the disk.
 */
export function statNow(path: string): ObjectInfo | undefined {
  return withFile(path, sizedObject)
}

function withFile<T>(path: string, work: (fd: number) => T): T | undefined {
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch (error) {
    return ifAbsent(error)
  }
  try {
    return work(fd)
  } finally {
    closeSync(fd)
  }
}

function sizedObject(fd: number): SeenObject {
  const { size } = fstatSync(fd)
  if (size > MAX_RECORD_BYTES) return { bytes: undefined, size, etag: fileEtag(fstatSync(fd, { bigint: true })) }
  return smallObject(readNow(fd, size))
}

/** Its ETag is made for who asks: a reader does not, and it takes as long as the reading. */
function smallObject(bytes: Buffer): SeenObject {
  return {
    bytes,
    size: bytes.length,
    get etag() {
      return contentEtag(bytes)
    },
  }
}

/** Nobody else runs between the read into it and the copy. */
const firstBytes = Buffer.alloc(4_096)

/**
 * An object's file is never changed, so it ends where it did. `readFileSync` asks the kernel twice
 * more.
 */
function readNow(fd: number, size: number): Buffer {
  const bytes = Buffer.allocUnsafe(size)
  for (let at = 0; at < size;) {
    const read = readSync(fd, bytes, at, size - at, at)
    if (read === 0) return bytes.subarray(0, at)
    at += read
  }
  return bytes
}

/** Opens a large object for reading. `undefined` if there is none. */
export async function openObject(path: string): Promise<FileHandle | undefined> {
  return open(path, 'r').catch(ifAbsent)
}

/**
 * Makes a file with these bytes. Only the bytes are written by the thread pool: a process that has
 * written much must wait for the disk with its next page, but hardly with its next name.
 */
export async function writeDraft(path: string, bytes: Uint8Array): Promise<void> {
  const fd = openSync(path, 'wx', 0o444)
  try {
    for (let at = 0; at < bytes.length;) at += (await write(fd, bytes, at)).bytesWritten
  } finally {
    closeSync(fd)
  }
}

/** The ETag of a small object follows from its content, as on S3. */
export function contentEtag(bytes: Uint8Array): Etag {
  return hash('sha256', bytes).slice(0, 32) as Etag
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
