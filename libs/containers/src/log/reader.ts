import { watch } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { StrataError } from '@strata/base'
import { isFinal, openAfter } from './generations.js'
import { LogParser } from './parser.js'
import { laterOf, placeOfTail } from './tail.js'
import type { LogChunk, LogOptions, LogPlace } from './types.js'

/** Where inotify is silent (some network file systems) a follower looks this often. */
const POLL_MS = 1000

export interface LogSource {
  readonly folder: string
  /** Nothing will be written any more, by anyone. */
  readonly ended: () => boolean
  /** Calls when `ended` may have changed. Answers how to stop it. */
  readonly onEnd: (wake: () => void) => () => void
  /**
   * Where the output that is to be read ends, once others write behind it. `ended` is true by then.
   */
  readonly until?: () => LogPlace | undefined
  /** Told the generation that is read now. */
  readonly at?: (number: number) => void
}

/**
 * The output of a container, exactly. Reads only when asked for more, so a slow consumer costs
 * nothing but its own time.
 */
export async function* readLog(source: LogSource, options: LogOptions): AsyncGenerator<LogChunk, void, undefined> {
  const { folder } = source
  const tail = options.tail === undefined ? undefined : await placeOfTail(folder, options.tail, options.stream)
  const place = laterOf(options.from, tail)
  const bell = new Bell(source, options.signal)
  const parser = new LogParser(options.stream)
  let current = place && (await openAfter(folder, place.number - 1))
  let offset = place && current?.number === place.number ? place.offset : 0
  let last = current ? current.number - 1 : -1
  if (current) source.at?.(current.number)
  try {
    for (;;) {
      options.signal?.throwIfAborted()
      // Asked before looking: what is written before the end is then surely seen.
      const ended = source.ended() || !options.follow
      if (options.follow) bell.arm()
      if (!current) {
        const until = source.until?.()
        if (until && last >= until.number) return
        current = await openAfter(folder, last)
        if (current) {
          if (last >= 0 && current.number > last + 1)
            throw new StrataError(
              'limit_exceeded',
              'output was written faster than it was read, and the oldest of it is no longer kept',
            )
          source.at?.(current.number)
          offset = 0
          continue
        }
        if (ended) return
        await bell.rings()
        continue
      }
      const final = ended || (await isFinal(folder, current.number))
      const { number } = current
      const bound = (): number => boundOf(number, source.until?.())
      const read = yield* drain(current.file, offset, parser, bound, options.signal)
      offset = read
      if (final) {
        last = current.number
        // No record goes on in the next generation.
        parser.drop()
        await current.file.close()
        current = undefined
      } else await bell.rings()
    }
  } catch (error) {
    if (!options.signal?.aborted) throw error
  } finally {
    bell.close()
    await current?.file.close()
  }
}

/** How many bytes of a generation belong to output that ends at `until`. */
function boundOf(number: number, until: LogPlace | undefined): number {
  if (!until || number < until.number) return Infinity
  return number === until.number ? until.offset : 0
}

/** To the file's present end, or to `bound`; answers where that is. */
async function* drain(
  file: FileHandle,
  from: number,
  parser: LogParser,
  bound: () => number,
  signal: AbortSignal | undefined,
): AsyncGenerator<LogChunk, number, undefined> {
  for (let offset = from; ;) {
    signal?.throwIfAborted()
    const { bytesRead } = await file.read(parser.buffer(), { position: offset })
    // Asked behind the read: the bound is set before anything is written beyond it.
    const length = Math.min(bytesRead, bound() - offset)
    if (length <= 0) return offset
    offset += length
    yield* parser.take(length)
  }
}

/**
 * Rings when there may be more. Armed *before* one looks, so that what happens while one looks is
 * not missed.
 */
class Bell {
  #rung = false
  #ring: (() => void) | undefined
  readonly #stop: (() => void)[] = []
  #watching = false

  constructor(
    private readonly source: LogSource,
    signal: AbortSignal | undefined,
  ) {
    const wake = (): void => this.#wake()
    this.#stop.push(source.onEnd(wake))
    signal?.addEventListener('abort', wake)
    this.#stop.push(() => signal?.removeEventListener('abort', wake))
  }

  arm(): void {
    this.#rung = false
    if (this.#watching) return
    this.#watching = true
    const timer = setInterval(() => this.#wake(), POLL_MS)
    this.#stop.push(() => clearInterval(timer))
    try {
      const watcher = watch(this.source.folder, () => this.#wake())
      watcher.on('error', () => watcher.close())
      this.#stop.push(() => watcher.close())
    } catch {
      return // not yet there, or gone, or no more watches to be had: the slow look does
    }
  }

  async rings(): Promise<void> {
    if (this.#rung) return
    await new Promise<void>((resolve) => {
      this.#ring = resolve
    })
  }

  close(): void {
    for (const stop of this.#stop) stop()
  }

  #wake(): void {
    this.#rung = true
    this.#ring?.()
  }
}
