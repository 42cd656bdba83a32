import { constants, watch, type FSWatcher } from 'node:fs'
import { mkdir, open, rename, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { asStrataError, Serial } from '@strata/base'
import { setAside } from '@strata/linux'
import { closedGenerations, CURRENT, isAbsent, NEXT } from './generations.js'
import { readLog, type LogSource } from './reader.js'
import { endsInRecord, placeOfTail } from './tail.js'
import type { LogChunk, LogLimits, LogOptions, LogPlace } from './types.js'

const FASTEST_MS = 20
const SLOWEST_MS = 1000
/**
 * At each command conmon makes a new file and renames it over `current`. What it has written into
 * `current` since the command before is lost. So a second command is sent only if `current` is
 * still missing after so long: conmon cannot have read the first one then. Meanwhile conmon writes
 * into the closed generation, and nothing is lost.
 */
const TOLD_AGAIN_MS = 10_000

/** Whose output a reader is for, and how it is told of that output's end. */
type Following = Pick<LogSource, 'ended' | 'onEnd'> & {
  /** The number of the container's start. */
  readonly start: number
}

/** A reader that is at work. */
interface Reader {
  readonly start: number
  readonly foreground: boolean
  /** The generation that it reads. */
  number: number
  /** Where the output of its start ended, once a later start has begun. */
  until?: LogPlace
}

/**
 * A container's output on disk: conmon writes `current`, we turn it into numbered generations and
 * drop the oldest. Nothing is dropped that a foreground reader has not had yet, until that is more
 * than `heldBytes`; then the reader is told.
 */
export class ContainerLog {
  readonly #readers = new Set<Reader>()
  readonly #rotations = new Serial()
  /** When conmon was last told, or `current` was first seen to be missing. */
  #toldAt: number | undefined
  /** The disk took no further file when one was last needed. */
  #isDiskFull = false
  #expected: NodeJS.Timeout | undefined
  #timer: NodeJS.Timeout | undefined
  #watcher: FSWatcher | undefined

  /** @param warn told when a look failed; the next one tries again */
  constructor(
    readonly folder: string,
    private readonly limits: LogLimits,
    private readonly warn: (message: string) => void,
  ) {}

  get path(): string {
    return join(this.folder, CURRENT)
  }

  async make(): Promise<void> {
    try {
      await mkdir(this.folder, { recursive: true, mode: 0o700 })
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
      this.warn(`${this.folder} is not a folder: it is kept as ${setAside(this.folder)}`)
      await this.make()
    }
  }

  /**
   * To be called before the process of the start `number` is made, when nobody writes: closes the
   * current generation if it is full, or ends in a part of a record, which the new output must not
   * be joined to. Readers of earlier starts end here. Answers where the output of the start begins;
   * `undefined` at the log's beginning.
   */
  async begin(number: number): Promise<LogPlace | undefined> {
    await this.#rotations.run(async () => {
      const size = (await sizeOf(this.path)) ?? 0
      const isFull = size >= this.limits.maxBytes
      const closed = await closedGenerations(this.folder)
      if (isFull || (size > 0 && !(await endsInRecord(this.path)))) await this.#close(closed, size)
      await this.#drop(closed)
    })
    const place = await placeOfTail(this.folder, 0)
    for (const reader of this.#readers) if (reader.start < number) reader.until ??= place ?? { number: 0, offset: 0 }
    return place
  }

  /** A foreground reader will come within `ms`: until then all is kept for it. */
  expectReader(ms: number): void {
    clearTimeout(this.#expected)
    this.#expected = setTimeout(() => this.#expectNone(), ms).unref()
  }

  #expectNone(): void {
    clearTimeout(this.#expected)
    this.#expected = undefined
  }

  /** Ends at the latest where the output of the start ends, also if a later start writes on. */
  async *read(following: Following, options: LogOptions): AsyncGenerator<LogChunk, void, undefined> {
    const reader: Reader = { start: following.start, foreground: options.foreground === true, number: 0 }
    this.#readers.add(reader)
    if (reader.foreground) this.#expectNone()
    const source: LogSource = {
      folder: this.folder,
      ended: following.ended,
      onEnd: following.onEnd,
      until: () => reader.until,
      at: (number) => (reader.number = number),
    }
    try {
      yield* readLog(source, options)
    } finally {
      this.#readers.delete(reader)
    }
  }

  /** Keeps the sizes until `stopKeeping`. @param bundle where conmon listens */
  keep(bundle: string): void {
    let size = 0
    let at = performance.now()
    const look = async (): Promise<void> => {
      const next = await this.rotate(bundle)
      const now = performance.now()
      const pace = Math.max(0, next - size) / Math.max(1, now - at)
      size = next
      at = now
      if (!this.#timer) return
      // At the pace of the writer: again when half of what is left could be full. A silent one is
      // woken for; the slow look is for where that is not told.
      this.#arm(look, pace > 0 ? (this.limits.maxBytes - next) / pace / 2 : SLOWEST_MS)
      if (pace === 0) this.#watch(look)
    }
    this.#arm(look, FASTEST_MS)
  }

  stopKeeping(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#watcher?.close()
    this.#expectNone()
  }

  #arm(look: () => Promise<void>, wait: number): void {
    clearTimeout(this.#timer)
    this.#watcher?.close()
    this.#timer = setTimeout(
      () => {
        this.#watcher?.close()
        look().catch((error: unknown) => {
          // Between two looks the container may have been removed, folder and all.
          if (!this.#timer) return
          this.warn(`cannot keep the log in ${this.folder}: ${String(error)}`)
          this.#arm(look, SLOWEST_MS)
        })
      },
      Math.min(SLOWEST_MS, Math.max(FASTEST_MS, wait)),
    ).unref()
  }

  #watch(look: () => Promise<void>): void {
    try {
      const watcher = watch(this.folder, () => this.#arm(look, FASTEST_MS))
      watcher.on('error', () => watcher.close())
      this.#watcher = watcher
    } catch {
      return // the folder is gone, or no more watches are to be had: the slow look does
    }
  }

  /**
   * One look: closes the current generation if it is full, drops what is too old. Answers the
   * current one's size.
   */
  rotate(bundle: string): Promise<number> {
    return this.#rotations.run(() => this.#rotate(bundle))
  }

  async #rotate(bundle: string): Promise<number> {
    const closed = await closedGenerations(this.folder)
    let size = await sizeOf(this.path)
    if (size === undefined) {
      // It is renamed, and the service may have died before it told conmon.
      this.#toldAt ??= performance.now()
      const isLate = closed.length > 0 && performance.now() - this.#toldAt >= TOLD_AGAIN_MS
      if (isLate && (await this.#makeNext())) await this.#tell(bundle)
      return 0
    }
    this.#toldAt = undefined
    if (size >= this.limits.maxBytes && (await this.#makeNext())) {
      await this.#close(closed, size, bundle)
      size = 0
    }
    await this.#drop(closed)
    return size
  }

  /**
   * Makes the current generation the newest closed one, also in `closed`. `bundle`: where conmon
   * listens, if there is one.
   */
  async #close(closed: number[], size: number, bundle?: string): Promise<void> {
    const number = (closed.at(-1) ?? -1) + 1
    const path = join(this.folder, String(number))
    await rename(this.path, path)
    closed.push(number)
    if (bundle !== undefined) await this.#tell(bundle)
    if (size >= this.limits.unattendedBytes)
      this.warn(
        `the log of a container was full: what it wrote after ${(await stat(path)).mtime.toISOString()} and before ${new Date().toISOString()} is not in ${this.folder}`,
      )
  }

  /**
   * Makes the file that conmon would make when it is told. A conmon that cannot make it ends, and
   * its container with it: a disk without free inodes would kill each container that writes much.
   * `false`: there is no room for it, so the generation goes on, to `unattendedBytes` at most.
   */
  async #makeNext(): Promise<boolean> {
    try {
      await (await open(join(this.folder, NEXT), 'a', 0o640)).close()
      this.#isDiskFull = false
      return true
    } catch (error) {
      const { code, message } = asStrataError(error)
      if (code !== 'storage_full') throw error
      if (!this.#isDiskFull) this.warn(`the log in ${this.folder} stays in one file until there is room: ${message}`)
      this.#isDiskFull = true
      return false
    }
  }

  async #tell(bundle: string): Promise<void> {
    this.#toldAt = performance.now()
    await reopen(bundle)
  }

  /** The newest closed one always stays: its number says how the next is called. */
  async #drop(closed: readonly number[]): Promise<void> {
    const surplus = closed.slice(0, Math.max(0, closed.length - Math.max(1, this.limits.generations - 1)))
    if (surplus.length === 0) return
    const foreground = [...this.#readers].filter((reader) => reader.foreground)
    const first = this.#expected ? 0 : Math.min(...foreground.map((reader) => reader.number))
    let held = 0
    for (const number of closed.slice().reverse()) {
      held += (await sizeOf(join(this.folder, String(number)))) ?? 0
      if (surplus.includes(number) && (number < first || held > this.limits.heldBytes))
        await unlink(join(this.folder, String(number)))
    }
  }
}

/**
 * Has conmon open its log's path again (`2` on its control pipe). Without a conmon nobody reads
 * there, which is fine.
 */
async function reopen(bundle: string): Promise<void> {
  try {
    await using control = await open(join(bundle, 'ctl'), constants.O_WRONLY | constants.O_NONBLOCK)
    await control.write('2 0 0\n')
  } catch (error) {
    // ENXIO: conmon has ended. EPIPE: it ended between the two calls.
    if (
      !isAbsent(error) &&
      !(error instanceof Error && 'code' in error && (error.code === 'ENXIO' || error.code === 'EPIPE'))
    )
      throw error
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}
