import { closeSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { TarReader, type TarSink } from '@strata/archive'
import type { SharedMemory } from '@strata/layers'
import { copyFileRange } from '@strata/linux'
import { StrataError } from '@strata/base'
import { type DiffId } from '@strata/oci'
import { algorithmOfName } from './algorithm.js'
import { Catalog } from './catalog.js'
import { writeAll } from './entry-writer.js'
import { FileControl } from './file-control.js'
import { FileHasher } from './file-hasher.js'
import { FilePlan, PIECE, type PlannedFile } from './file-plan.js'
import { LayerIndexer } from './layer-indexer.js'
import type { Answer, CopyJob, KnownFile, ListJob, PlanJob } from './messages.js'
import { SMALL_NAME } from '../destinations/placement.js'
import { WholeBody } from './whole-body.js'
import { unreadable } from '../sources/unreadable.js'

/** The headers alone are read here: between one file's and the next's nothing is looked at. */
const WINDOW = 16 * 1024

/**
 * The work of a thread that takes in a file which can be read anywhere. One thread plans and, in
 * the end, lists; all of them copy.
 */
export class FileWorker {
  #catalog: Catalog | undefined
  readonly #buffer = Buffer.allocUnsafeSlow(PIECE)

  constructor(
    private readonly sendIndex: (diffId: DiffId, index: Buffer) => void,
    private readonly memory: SharedMemory,
  ) {}

  plan({ fd, size, keyPrefix, limits, whole, control: memory }: PlanJob): Answer {
    const control = new FileControl(memory)
    const catalog = new Catalog((name) => keyPrefix + name)
    const files: PlannedFile[] = []
    const sink: TarSink = {
      entry: (entry) => {
        const place = catalog.add(entry)
        control.countEntry()
        if (place !== undefined)
          files.push({
            entry: catalog.length - 1,
            source: entry.dataOffset,
            size: entry.size,
            target: place.offset,
            algorithm: algorithmOfName(entry.path),
          })
        return false
      },
      data: () => undefined,
      entryEnd: () => undefined,
    }
    if (whole) new WholeBody(sink, size)
    else this.#readHeaders(fd, size, new TarReader(sink, limits), control)
    this.#catalog = catalog
    return { kind: 'planned', plan: FilePlan.of(files).memory }
  }

  #readHeaders(fd: number, size: number, tar: TarReader, control: FileControl): void {
    for (let at = 0; at < size;) {
      control.throwIfStopped()
      const view = readAt(fd, this.#buffer.subarray(0, Math.min(WINDOW, size - at)), at)
      tar.write(view)
      at += view.length
      while (tar.unread > 0 && at < size) {
        const passed = Math.min(tar.unread, size - at)
        tar.pass(passed)
        at += passed
      }
    }
    tar.end()
  }

  copy(job: CopyJob): Answer {
    return new Copier(job, this.#buffer, this.sendIndex, this.memory).run()
  }

  list({ files }: ListJob): { listing: Buffer; entries: number } {
    const catalog = this.#catalog!
    this.#catalog = undefined
    for (const { entry, facts } of files) catalog.know(entry, facts)
    return { listing: catalog.encode(), entries: catalog.length }
  }
}

/**
 * Copies and hashes files of the plan, as many as it gets, then helps others with theirs. What a
 * digest says is true of the bytes in the store, whoever changes the archive meanwhile: hashed is
 * either the very buffer that is written, or, where another thread has copied, what is read back
 * from there.
 */
class Copier {
  readonly #plan: FilePlan
  readonly #control: FileControl
  readonly #known: KnownFile[] = []
  #hasCopyRange = true
  /** Of the file that is being hashed. */
  #hasher: FileHasher | undefined

  constructor(
    private readonly job: CopyJob,
    private readonly buffer: Buffer,
    private readonly sendIndex: (diffId: DiffId, index: Buffer) => void,
    private readonly memory: SharedMemory,
  ) {
    this.#plan = new FilePlan(job.plan)
    this.#control = new FileControl(job.control)
  }

  run(): Answer {
    const small = openSync(join(this.job.folder, SMALL_NAME), 'r+')
    try {
      for (let i = this.#control.claim(); i < this.#plan.length; i = this.#control.claim()) {
        if (this.#plan.pieces(i) === 0) this.#takeSmall(i, small)
        else this.#takeLarge(i)
      }
    } finally {
      this.#hasher?.release()
      closeSync(small)
    }
    for (let i = 0; i < this.#plan.length && this.#plan.pieces(i) > 0; i++) this.#help(i)
    return { kind: 'copied', files: this.#known }
  }

  #takeSmall(i: number, target: number): void {
    const file = this.#plan.file(i)
    this.#control.throwIfStopped()
    const hasher = this.#newHasher(file)
    const view = readAt(this.job.fd, this.buffer.subarray(0, file.size), file.source)
    if (view.length > 0) hasher.write(view)
    writeAll(target, view, file.target)
    this.#control.countBytes(file.size)
    this.#finish(file, hasher)
  }

  #takeLarge(i: number): void {
    const file = this.#plan.file(i)
    const target = openSync(this.#pathOf(file), 'wx+', 0o600)
    try {
      this.#plan.opened(i)
      const hasher = this.#newHasher(file)
      for (let piece = 0; piece < this.#plan.pieces(i); piece++) {
        this.#control.throwIfStopped()
        const at = piece * PIECE
        const room = this.buffer.subarray(0, Math.min(PIECE, file.size - at))
        if (this.#plan.take(i, piece)) {
          hasher.write(readAt(this.job.fd, room, file.source + at))
          writeAll(target, room, at)
          this.#control.countBytes(room.length)
        } else {
          this.#plan.waitUntilDone(i, piece, this.#control)
          hasher.write(readAt(target, room, at))
        }
      }
      this.#finish(file, hasher)
    } finally {
      closeSync(target)
    }
  }

  #help(i: number): void {
    this.#plan.waitUntilOpen(i, this.#control)
    const file = this.#plan.file(i)
    let target: number | undefined
    try {
      for (let piece = this.#plan.pieces(i) - 1; piece >= 0; piece--) {
        this.#control.throwIfStopped()
        if (!this.#plan.take(i, piece)) continue
        target ??= openSync(this.#pathOf(file), 'r+')
        this.#copyPiece(file, target, piece * PIECE)
        this.#plan.done(i, piece)
      }
    } finally {
      if (target !== undefined) closeSync(target)
    }
  }

  #copyPiece(file: PlannedFile, target: number, at: number): void {
    const length = Math.min(PIECE, file.size - at)
    if (!this.#hasCopyRange || !this.#copyRange(file.source + at, target, at, length)) {
      writeAll(target, readAt(this.job.fd, this.buffer.subarray(0, length), file.source + at), at)
    }
    this.#control.countBytes(length)
  }

  /**
   * False: not between these two file systems, or for a reason that reading and writing will name.
   */
  #copyRange(from: number, target: number, to: number, length: number): boolean {
    try {
      for (let done = 0; done < length;) {
        const copied = copyFileRange(this.job.fd, from + done, target, to + done, length - done)
        if (copied === 0) return false
        done += copied
      }
      return true
    } catch {
      this.#hasCopyRange = false
      return false
    }
  }

  #finish({ entry }: PlannedFile, hasher: FileHasher): void {
    const { facts, index } = hasher.end()
    this.#known.push({ entry, facts })
    if (index === undefined) return
    this.#control.indexLeaves()
    this.sendIndex(facts.diffId!, index)
  }

  #newHasher({ algorithm }: PlannedFile): FileHasher {
    const { layer } = this.job
    this.#hasher = new FileHasher(() => new LayerIndexer(layer, this.memory), layer, algorithm)
    return this.#hasher
  }

  #pathOf({ entry }: PlannedFile): string {
    return join(this.job.folder, String(entry))
  }
}

/** Fills the buffer. */
function readAt(fd: number, buffer: Buffer, position: number): Buffer {
  for (let at = 0; at < buffer.length;) {
    const length = read(fd, buffer, at, position + at)
    if (length === 0) throw becameShorter()
    at += length
  }
  return buffer
}

function read(fd: number, buffer: Buffer, at: number, position: number): number {
  try {
    return readSync(fd, buffer, at, buffer.length - at, position)
  } catch (error) {
    throw unreadable(error)
  }
}

function becameShorter(): StrataError {
  return new StrataError('archive_changed', 'the archive became shorter while it was read')
}
