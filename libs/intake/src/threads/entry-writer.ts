import { closeSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { TarEntry, TarSink } from '@strata/archive'
import { LARGE, Placement, SMALL_NAME } from '../destinations/placement.js'

/**
 * The sink of the writing worker: every file's bytes go to their place, once, straight from the
 * ring.
 */
export class EntryWriter implements TarSink {
  readonly large: string[] = []
  readonly #placement = new Placement()
  readonly #small: number
  readonly #gathered = Buffer.allocUnsafe(LARGE)
  #gatheredLength = 0
  #smallEnd = 0
  #file: number | undefined
  #fileEnd = 0

  constructor(private readonly folder: string) {
    this.#small = openSync(join(folder, SMALL_NAME), 'r+')
  }

  entry(entry: TarEntry): boolean {
    const place = this.#placement.next(entry)
    if (place === undefined) return false
    if (place.name !== SMALL_NAME) {
      this.#file = openSync(join(this.folder, place.name), 'wx', 0o600)
      this.#fileEnd = 0
      this.large.push(place.name)
    }
    return true
  }

  data(view: Buffer): void {
    if (this.#file !== undefined) {
      writeAll(this.#file, view, this.#fileEnd)
      this.#fileEnd += view.length
      return
    }
    // A gathered file is smaller than the buffer, so it fits once the buffer is empty.
    if (this.#gatheredLength + view.length > this.#gathered.length) this.#flush()
    view.copy(this.#gathered, this.#gatheredLength)
    this.#gatheredLength += view.length
  }

  entryEnd(): void {
    if (this.#file === undefined) return
    const file = this.#file
    this.#file = undefined
    closeSync(file)
  }

  finish(): void {
    this.#flush()
  }

  /** Always to be called, also after a failure. */
  close(): void {
    this.entryEnd()
    closeSync(this.#small)
  }

  #flush(): void {
    writeAll(this.#small, this.#gathered.subarray(0, this.#gatheredLength), this.#smallEnd)
    this.#smallEnd += this.#gatheredLength
    this.#gatheredLength = 0
  }
}

export function writeAll(file: number, bytes: Buffer, position: number): void {
  for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at, bytes.length - at, position + at)
}
