import { StrataError } from '@strata/base'
import {
  algorithmOf,
  digestOf,
  expectConfig,
  expectDescriptors,
  imageConfigSchema,
  indexSchema,
  manifestSchema,
  MAX_JSON_BYTES,
  parseJson,
  type Digest,
  type ImageConfig,
  type Index,
  type Manifest,
} from '@strata/oci'
import type { z } from 'zod'
import type { ArchiveEntry, ArchiveListing, BlobSource } from '../listing.js'

/** Reads a file of the archive, at most `MAX_JSON_BYTES` long, from where it lies. */
export type ReadSmall = (source: BlobSource) => Promise<Buffer>

/**
 * All JSON that is read of one archive, in files of the largest size. It bounds time and memory,
 * also where many small files name one large one.
 */
const MAX_ARCHIVE_JSON = 16
/**
 * Documents that are read of one archive, and layers that it leaves out and the store is asked for:
 * each is a read of the store, also of a few bytes.
 */
const MAX_READS = 20_000
/**
 * Names that an archive gives, and images that it has: each costs the store a dozen requests now,
 * and whoever lists names one for ever.
 */
export const MAX_ARCHIVE_NAMES = 1_000

export interface ResolveLimits {
  /** Bytes of one JSON file; of all that are read 16 times as many. */
  readonly maxJson: number
  /** Names of an archive, and images of it. */
  readonly maxNames: number
}

/** A file of the archive under the path by which it was asked for. */
export interface ArchiveFile {
  readonly path: string
  readonly entry: ArchiveEntry
  readonly blob: BlobSource
}

const BLOB_PATH = /^blobs\/(sha256\/[0-9a-f]{64}|sha512\/[0-9a-f]{128})$/

/**
 * The archive as a folder: paths are cleaned and links followed, both inside the archive only; of
 * entries of one name the last one counts.
 */
export class ArchiveFiles {
  readonly #byPath = new Map<string, ArchiveEntry>()
  #jsonBytes = 0
  #documents = 0
  readonly #kept = new Map<string, Promise<boolean>>()
  readonly #limits: ResolveLimits

  /** `askStore`: whether a blob that the archive leaves out is in the store. */
  constructor(
    listing: ArchiveListing,
    private readonly readSmall: ReadSmall,
    private readonly askStore: (digest: Digest, size: number) => Promise<boolean>,
    limits: Partial<ResolveLimits> = {},
  ) {
    this.#limits = { maxJson: MAX_JSON_BYTES, maxNames: MAX_ARCHIVE_NAMES, ...limits }
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
      // A symbolic link counts from its folder, a hard link from the archive's top (pax(1),
      // "linkpath").
      const target = cleanPath(entry.link, entry.type === 'symlink' ? at : '')
      if (target === undefined)
        throw new StrataError('archive_invalid', `${show(at)} is a link to ${show(entry.link)}, outside the archive`)
      if (passed.has(target))
        throw new StrataError('archive_invalid', `${show(path)} is a link that leads back to itself`)
      at = target
      entry = this.#byPath.get(at)
    }
    if (entry?.type !== 'file') return undefined
    const blob = sourceOf(entry)
    for (const name of passed.add(at)) {
      const named = BLOB_PATH.exec(name)?.[1]?.replace('/', ':')
      if (named !== undefined && blob.digest !== named)
        throw new StrataError('digest_mismatch', `the blob ${named} of the archive is ${blob.digest}`)
    }
    return { path: show(path), entry, blob }
  }

  /** As `find`, for a path that `manifest` gives: one that leads outside the archive is refused. */
  findNamed(text: string, manifest: string): ArchiveFile | undefined {
    // The listing has names as latin1 texts of their bytes; JSON has them as text.
    const path = cleanPath(Buffer.from(text).toString('latin1'))
    if (path === undefined)
      throw new StrataError(
        'archive_invalid',
        `${manifest} names ${JSON.stringify(text.slice(0, 200))}, a path outside the archive`,
      )
    return this.find(path)
  }

  /** The blob of an OCI layout (image-spec, image-layout.md). */
  findBlob(digest: Digest): ArchiveFile | undefined {
    return this.find(`blobs/${digest.replace(':', '/')}`)
  }

  /** Whether the store has a layer that the archive leaves out. Asked once for each. */
  async isKept(digest: Digest, size: number): Promise<boolean> {
    const key = `${digest} ${size}`
    const known = this.#kept.get(key)
    if (known) return known
    if (this.#kept.size >= MAX_READS)
      throw new StrataError('limit_exceeded', `the archive leaves out more than ${MAX_READS} layers`)
    const asked = this.askStore(digest, size)
    this.#kept.set(key, asked)
    return asked
  }

  /**
   * To be told of the names of one document, or of its images, before anything is done for them.
   */
  expectFew(count: number, what: 'names' | 'images'): void {
    const { maxNames } = this.#limits
    if (count > maxNames)
      throw new StrataError('limit_exceeded', `the archive has ${count} ${what}; the limit is ${maxNames}`)
  }

  async config(file: ArchiveFile): Promise<ImageConfig> {
    const config = await this.json(file, imageConfigSchema)
    expectConfig(config, file.path)
    return config
  }

  async manifest(file: ArchiveFile): Promise<Manifest> {
    const manifest = await this.json(file, manifestSchema)
    expectDescriptors([manifest.config, ...manifest.layers], file.path)
    return manifest
  }

  async index(file: ArchiveFile): Promise<Index> {
    const index = await this.json(file, indexSchema)
    expectDescriptors(index.manifests, file.path)
    return index
  }

  /** Counts JSON that is read of the archive, or made of what is in it. */
  countJson(bytes: number): void {
    const most = MAX_ARCHIVE_JSON * this.#limits.maxJson
    this.#jsonBytes += bytes
    if (this.#jsonBytes > most)
      throw new StrataError(
        'limit_exceeded',
        `the manifests and configs of the archive have more than ${most} bytes together`,
      )
    if (++this.#documents > MAX_READS)
      throw new StrataError('limit_exceeded', `the archive has more than ${MAX_READS} manifests and configs`)
  }

  /** A file's JSON, bounded in size before a byte of it is read. */
  async json<T>(file: ArchiveFile, schema: z.ZodType<T>): Promise<T> {
    const { path, blob } = file
    const { maxJson } = this.#limits
    if (blob.size > maxJson)
      throw new StrataError('limit_exceeded', `${path} has ${blob.size} bytes; the limit for JSON is ${maxJson}`)
    this.countJson(blob.size)
    const bytes = await this.readSmall(blob)
    const digest = digestOf(bytes, algorithmOf(blob.digest))
    if (digest !== blob.digest)
      throw new StrataError('corrupt', `${path} was stored as ${blob.digest}, but ${digest} was read back`)
    return parseJson(schema, bytes, path)
  }
}

function sourceOf(entry: ArchiveEntry): BlobSource {
  if (!entry.digest || !entry.at)
    throw new StrataError('corrupt', `the list of the archive’s entries does not say where ${show(entry.name)} lies`)
  return { digest: entry.digest, size: entry.size, at: entry.at }
}

/**
 * `./a//b/../c` is `a/c`. Undefined: absolute, or above the top. `from` is the path of the link
 * that names it.
 */
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
