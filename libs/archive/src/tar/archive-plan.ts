import { createHash } from 'node:crypto'
import { algorithmOf, familiarReference, formatReference, MEDIA, type Digest, type Reference } from '@strata/oci'
import { distinct } from '../images/resolve-names.js'
import { ENTRY } from './tar-entry.js'
import { writeEntry } from './tar-entry-write.js'
import { zerosAfter, END_OF_TAR } from './tar-write.js'

/**
 * `oci`: an image layout (image-spec, image-layout.md). `docker`: the same with `manifest.json`,
 * which every docker, podman, skopeo and containerd read too.
 */
export type ArchiveFormat = 'docker' | 'oci'

interface Sized {
  readonly digest: Digest
  readonly size: number
}

/** What is to be in an archive: everything by digest, the manifest's bytes at hand. */
export interface SavedImage {
  /** What the names stand for: a manifest, or an index. */
  readonly manifest: { readonly digest: Digest; readonly mediaType: string; readonly bytes: Buffer }
  readonly config: Sized
  /** Lowest first. */
  readonly layers: readonly Sized[]
  /**
   * The rest of an image with all its platforms and attachments. The image above is one of them,
   * which `manifest.json` lists.
   */
  readonly whole?: {
    readonly documents: readonly Sized[]
    /** Those of the documents that no index of the image names. */
    readonly attached: readonly (Sized & { readonly mediaType: string })[]
    readonly blobs: readonly Sized[]
    readonly layers: readonly Sized[]
  }
  /** Each with a tag. One that comes twice is written once. */
  readonly names: readonly Reference[]
}

type Content = Buffer | { readonly blob: Digest; readonly size: number }

/** A part of an archive: bytes of its own, or those of a blob. */
type ArchivePiece = { readonly bytes: Buffer } | { readonly blob: Digest; readonly size: number }

/**
 * An archive before a byte of it is read: its length is known, and so is what lies at any offset.
 */
export interface ArchivePlan {
  readonly size: number
  /** Of two plans equal only if their archives have the same bytes. */
  readonly etag: string
  readonly pieces: readonly ArchivePiece[]
}

/**
 * The archive of images, the same bytes for the same images always and everywhere: no time, no
 * owner, blobs in the order in which the images name them, each once. `without` leaves layers out
 * that the receiver has; the manifests name them all the same.
 */
export function planArchive(
  images: readonly SavedImage[],
  format: ArchiveFormat,
  without: ReadonlySet<Digest> = new Set(),
): ArchivePlan {
  const named = images.map((image) => ({ ...image, names: distinct(image.names) }))
  const pieces: ArchivePiece[] = []
  const file = (name: string, content: Content): void => {
    const size = Buffer.isBuffer(content) ? content.length : content.size
    pieces.push({ bytes: headerOf(name, size) }, Buffer.isBuffer(content) ? { bytes: content } : content, {
      bytes: zerosAfter(size),
    })
  }
  const folder = (name: string): void => void pieces.push({ bytes: headerOf(name, 0) })
  file('oci-layout', json({ imageLayoutVersion: '1.0.0' }))
  file('index.json', json({ schemaVersion: 2, mediaType: MEDIA.index, manifests: named.flatMap(descriptors) }))
  if (format === 'docker') file('manifest.json', json(named.map(dockerItem)))
  const blobs = new Map(images.flatMap(blobsOf).filter(([digest]) => !without.has(digest)))
  folder('blobs/')
  folder('blobs/sha256/')
  if ([...blobs.keys()].some((digest) => algorithmOf(digest) === 'sha512')) folder('blobs/sha512/')
  for (const [digest, content] of blobs) file(pathOf(digest), content)
  pieces.push({ bytes: END_OF_TAR })
  const hash = createHash('sha256')
  let size = 0
  for (const piece of pieces) {
    hash.update('bytes' in piece ? piece.bytes : piece.blob)
    size += lengthOf(piece)
  }
  return { size, etag: hash.digest('hex'), pieces: pieces.filter((piece) => lengthOf(piece) > 0) }
}

/**
 * The bytes of a plan from `start` to `end` (exclusive). `open` gives a part of a blob's bytes, in
 * any form that the caller understands; it is asked for one at a time.
 */
export async function* archiveBytes<Part>(
  plan: ArchivePlan,
  range: { readonly start: number; readonly end: number },
  open: (blob: Digest, range: { start: number; end: number }) => AsyncIterable<Part>,
): AsyncGenerator<Uint8Array | Part> {
  let at = 0
  for (const piece of plan.pieces) {
    const length = lengthOf(piece)
    const start = Math.max(0, range.start - at)
    const end = Math.min(length, range.end - at)
    at += length
    if (start >= end) continue
    if ('bytes' in piece) yield piece.bytes.subarray(start, end)
    else yield* open(piece.blob, { start, end })
  }
}

/**
 * Of a file, or of a folder where the name ends in `/`: root's, read-only but for root, of the
 * beginning of time.
 */
function headerOf(name: string, size: number): Buffer {
  const isFolder = name.endsWith('/')
  return writeEntry({
    path: Buffer.from(name),
    type: isFolder ? ENTRY.directory : ENTRY.file,
    mode: isFolder ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    size,
    mtime: 0,
    mtimeNanos: 0,
  })
}

function lengthOf(piece: ArchivePiece): number {
  return 'bytes' in piece ? piece.bytes.length : piece.size
}

/**
 * As docker 25 writes them: one a name, the name in full for containerd and docker, the tag for who
 * follows the specification.
 */
function descriptors({ manifest, names, whole }: SavedImage): object[] {
  const descriptor = { mediaType: manifest.mediaType, digest: manifest.digest, size: manifest.bytes.length }
  const named = names.map((name) => ({
    ...descriptor,
    annotations: { 'io.containerd.image.name': formatReference(name), 'org.opencontainers.image.ref.name': name.tag },
  }))
  const attached = (whole?.attached ?? []).map(({ mediaType, digest, size }) => ({ mediaType, digest, size }))
  return [...(named.length > 0 ? named : [descriptor]), ...attached]
}

function blobsOf({ manifest, config, layers, whole }: SavedImage): [Digest, Content][] {
  const others = whole ? [...whole.documents, ...whole.blobs, ...whole.layers] : []
  return [
    [manifest.digest, manifest.bytes],
    ...[config, ...layers, ...others].map(({ digest, size }): [Digest, Content] => [digest, { blob: digest, size }]),
  ]
}

function dockerItem({ config, layers, names }: SavedImage): object {
  return {
    Config: pathOf(config.digest),
    RepoTags: names.length > 0 ? names.map(familiarReference) : null,
    Layers: layers.map(({ digest }) => pathOf(digest)),
  }
}

function pathOf(digest: Digest): string {
  return `blobs/${digest.replace(':', '/')}`
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
