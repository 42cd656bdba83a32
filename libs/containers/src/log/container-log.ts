import { constants, watch, type FSWatcher } from 'node:fs'
import { mkdir, open, rename, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { setAside } from '@strata/linux'
import { closedGenerations, CURRENT, isAbsent } from './generations.js'
import { readLog, type LogSource } from './reader.js'
import { placeOfTail } from './tail.js'
import type { LogChunk, LogLimits, LogOptions, LogPlace } from './types.js'

const FASTEST_MS = 20
const SLOWEST_MS = 1000

/**
 * A container's output on disk: conmon writes `current`, we turn it into numbered generations and
 * drop the oldest. Nothing is dropped that a foreground reader has not had yet, until that is more
 * than `heldBytes`; then the reader is told.
 */
export class ContainerLog {
  readonly #readers = new Set<{ number: number }>()
  #expected = false
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

  /** Where it ends now; `undefined` if nothing was ever written. */
  end(): Promise<LogPlace | undefined> {
    return placeOfTail(this.folder, 0)
  }

  /** A foreground reader will come, or will come no more. */
  expectReader(expected: boolean): void {
    this.#expected = expected
  }

  read(source: Pick<LogSource, 'ended' | 'onEnd'>, options: LogOptions): AsyncGenerator<LogChunk, void, undefined> {
    return this.#read(source, options)
  }

  async *#read(
    source: Pick<LogSource, 'ended' | 'onEnd'>,
    options: LogOptions,
  ): AsyncGenerator<LogChunk, void, undefined> {
    const reader = { number: 0 }
    if (options.foreground) {
      this.#readers.add(reader)
      this.#expected = false
    }
    try {
      yield* readLog({ ...source, folder: this.folder, at: (number) => (reader.number = number) }, options)
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
      if (pace === 0) {
        this.#watcher = watch(this.folder, () => this.#arm(look, FASTEST_MS))
        this.#watcher.on('error', () => this.#watcher?.close())
      }
    }
    this.#arm(look, FASTEST_MS)
  }

  stopKeeping(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#watcher?.close()
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

  /**
   * One look: closes the current generation if it is full, drops what is too old. Answers the
   * current one's size.
   */
  async rotate(bundle: string): Promise<number> {
    const closed = await closedGenerations(this.folder)
    let size = await sizeOf(this.path)
    if (size === undefined) {
      // Renamed, and nobody told conmon (we died in between, or it had no time yet): it is told
      // again, which does no harm.
      if (closed.length > 0) await reopen(bundle)
      return 0
    }
    if (size >= this.limits.maxBytes) {
      const number = (closed.at(-1) ?? -1) + 1
      const path = join(this.folder, String(number))
      await rename(this.path, path)
      await reopen(bundle)
      if (size >= this.limits.unattendedBytes)
        this.warn(
          `the log of a container was full: what it wrote after ${(await stat(path)).mtime.toISOString()} and before ${new Date().toISOString()} is not in ${this.folder}`,
        )
      closed.push(number)
      size = 0
    }
    await this.#drop(closed)
    return size
  }

  /** The newest closed one always stays: its number says how the next is called. */
  async #drop(closed: readonly number[]): Promise<void> {
    const surplus = closed.slice(0, Math.max(0, closed.length - Math.max(1, this.limits.generations - 1)))
    if (surplus.length === 0) return
    const first = this.#expected ? 0 : Math.min(...[...this.#readers].map((reader) => reader.number))
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
