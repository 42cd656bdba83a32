import { algorithmOf, digestOf, MAX_JSON_BYTES, parseJson, StrataError, type Digest } from '@strata/oci'
import type { z } from 'zod'
import type { ArchiveEntry, ArchiveListing, BlobSource } from './listing.js'

/** Reads a file of the archive, at most `MAX_JSON_BYTES` long, from where it lies. */
export type ReadSmall = (source: BlobSource) => Promise<Buffer>

/** All JSON that is read of one archive, in files of the largest size. It bounds time and memory, also where many small files name one large one. */
const MAX_ARCHIVE_JSON = 16

/** A file of the archive under the path by which it was asked for. */
export interface ArchiveFile {
  readonly path: string
  readonly entry: ArchiveEntry
  readonly blob: BlobSource
}

const BLOB_PATH = /^blobs\/(sha256\/[0-9a-f]{64}|sha512\/[0-9a-f]{128})$/

/** The archive as a folder: paths are cleaned and links followed, both inside the archive only; of entries of one name the last one counts. */
export class ArchiveFiles {
  readonly #byPath = new Map<string, ArchiveEntry>()
  #jsonBytes = 0

  /** `isKept`: whether a blob that the archive leaves out is in the store. */
  constructor(listing: ArchiveListing, private readonly readSmall: ReadSmall, readonly isKept: (digest: Digest, size: number) => Promise<boolean>, private readonly maxJson = MAX_JSON_BYTES) {
    for (const entry of listing.entries) {
      const path = cleanPath(entry.name)
      if (path !== undefined && path !== '') this.#byPath.set(path, entry)
    }
  }

  /** What lies at the archive's top, for messages. */
  topNames(): string[] {
    return [...new Set(Array.from(this.#byPath.keys(), (path) => path.split('/', 1)[0]!))]
  }

  /** Every path, in the archive's order. */
  paths(): string[] {
    return [...this.#byPath.keys()]
  }

  /** The file at a path of the archive, or undefined: nothing is there, or no file. */
  find(path: string): ArchiveFile | undefined {
    const passed = new Set<string>()
    let at = path
    let entry = this.#byPath.get(at)
    while (entry?.link !== undefined && (entry.type === 'symlink' || entry.type === 'hardlink')) {
      passed.add(at)
      // A symbolic link counts from its folder, a hard link from the archive's top (pax(1), "linkpath").
      const target = cleanPath(entry.link, entry.type === 'symlink' ? at : '')
      if (target === undefined) throw new StrataError('archive_invalid', `${show(at)} is a link to ${show(entry.link)}, outside the archive`)
      if (passed.has(target)) throw new StrataError('archive_invalid', `${show(path)} is a link that leads back to itself`)
      at = target
      entry = this.#byPath.get(at)
    }
    if (entry?.type !== 'file') return undefined
    const blob = sourceOf(entry)
    for (const name of passed.add(at)) {
      const named = BLOB_PATH.exec(name)?.[1]?.replace('/', ':')
      if (named !== undefined && blob.digest !== named) throw new StrataError('digest_mismatch', `the blob ${named} of the archive is ${blob.digest}`)
    }
    return { path: show(path), entry, blob }
  }

  /** As `find`, for a path that `manifest` gives: one that leads outside the archive is refused. */
  findNamed(text: string, manifest: string): ArchiveFile | undefined {
    // The listing has names as latin1 texts of their bytes; JSON has them as text.
    const path = cleanPath(Buffer.from(text).toString('latin1'))
    if (path === undefined) throw new StrataError('archive_invalid', `${manifest} names ${JSON.stringify(text.slice(0, 200))}, a path outside the archive`)
    return this.find(path)
  }

  /** The blob of an OCI layout (image-spec, image-layout.md). */
  findBlob(digest: Digest): ArchiveFile | undefined {
    return this.find(`blobs/${digest.replace(':', '/')}`)
  }

  /** A file's JSON, bounded in size before a byte of it is read. */
  async json<T>(file: ArchiveFile, schema: z.ZodType<T>): Promise<T> {
    const { path, blob } = file
    if (blob.size > this.maxJson) throw new StrataError('limit_exceeded', `${path} has ${blob.size} bytes; the limit for JSON is ${this.maxJson}`)
    this.#jsonBytes += blob.size
    if (this.#jsonBytes > MAX_ARCHIVE_JSON * this.maxJson) {
      throw new StrataError('limit_exceeded', `the manifests and configs of the archive have more than ${MAX_ARCHIVE_JSON * this.maxJson} bytes together`)
    }
    const bytes = await this.readSmall(blob)
    const digest = digestOf(bytes, algorithmOf(blob.digest))
    if (digest !== blob.digest) throw new StrataError('corrupt', `${path} was stored as ${blob.digest}, but ${digest} was read back`)
    return parseJson(schema, bytes, path)
  }
}

function sourceOf(entry: ArchiveEntry): BlobSource {
  if (!entry.digest || !entry.at) throw new StrataError('corrupt', `the list of the archive’s entries does not say where ${show(entry.name)} lies`)
  return { digest: entry.digest, size: entry.size, at: entry.at }
}

/** `./a//b/../c` is `a/c`. Undefined: absolute, or above the top. `from` is the path of the link that names it. */
function cleanPath(path: string, from = ''): string | undefined {
  if (path.startsWith('/')) return undefined
  const parts = from.split('/').slice(0, -1)
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue
    if (part !== '..') parts.push(part)
    else if (parts.pop() === undefined) return undefined
  }
  return parts.join('/')
}

/** An archive's name in a sentence: as text, without what a terminal would act on. */
function show(name: string): string {
  const text = Buffer.from(name.slice(0, 200), 'latin1').toString('utf8')
  return /^[\w./:@+-]+$/.test(text) ? text : JSON.stringify(text)
}
