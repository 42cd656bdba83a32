import type { TarEntry, TarSink } from '@strata/archive'
import { HandOver } from './hand-over.js'
import { LARGE, Placement, SMALL_NAME } from './placement.js'

/** Writes an object of the upload. The source's pieces are lent, as `HandOver` says. */
export interface ObjectTarget {
  put(name: string, source: AsyncIterable<Uint8Array> | Uint8Array): Promise<void>
}

/**
 * Objects of which all bytes were given, and which the store has not finished. Meanwhile the bytes
 * of the next one are sent: else the store would stand still between two layers.
 */
const ENDING = 2

/** What the reader of the tar met, to be done one after the other. */
type Step = { readonly begin: string } | { readonly data: Uint8Array } | 'end' | { readonly small: Uint8Array }

/** An object on its way. */
interface Writing {
  readonly source: HandOver
  readonly done: Promise<void>
}

/**
 * The sink of the writing side where bytes go to a store by streams. The reader of the tar is
 * synchronous and the store is not, so what it meets in one view is noted, and `handOver` does it
 * before the next view is read: the view is free when that is done, and a slow store holds the
 * archive up.
 */
export class ObjectWriter implements TarSink {
  readonly #placement = new Placement()
  #steps: Step[] = []
  /** Filled in turn: one view flushes at most once, and its flush is done before the next view. */
  #gathered: Buffer = Buffer.allocUnsafe(LARGE)
  #spare: Buffer | undefined
  #gatheredLength = 0
  #hasSmall = false
  #isLarge = false
  #large: Writing | undefined
  #small: Writing | undefined
  readonly #ending = new Set<Promise<void>>()
  #failure: { readonly error: unknown } | undefined

  constructor(private readonly target: ObjectTarget) {}

  entry(entry: TarEntry): boolean {
    const place = this.#placement.next(entry)
    if (place === undefined) return false
    this.#isLarge = place.name !== SMALL_NAME
    if (this.#isLarge) this.#steps.push({ begin: place.name })
    else this.#hasSmall = true
    return true
  }

  data(view: Buffer): void {
    if (this.#isLarge) return void this.#steps.push({ data: view })
    if (this.#gatheredLength + view.length > this.#gathered.length) {
      this.#steps.push({ small: this.#gathered.subarray(0, this.#gatheredLength) })
      const next = this.#spare ?? Buffer.allocUnsafe(LARGE)
      this.#spare = this.#gathered
      this.#gathered = next
      this.#gatheredLength = 0
    }
    view.copy(this.#gathered, this.#gatheredLength)
    this.#gatheredLength += view.length
  }

  entryEnd(): void {
    if (this.#isLarge) this.#steps.push('end')
    this.#isLarge = false
  }

  /** Does what the last view asked for. `undefined`: nothing. */
  handOver(): Promise<void> | undefined {
    return this.#steps.length === 0 ? undefined : this.#work()
  }

  /** All views were read and handed over. */
  async finish(): Promise<void> {
    const rest = this.#gathered.subarray(0, this.#gatheredLength)
    if (this.#small) {
      await this.#small.source.give(rest)
      await this.#end(this.#small)
    } else if (this.#hasSmall) await this.target.put(SMALL_NAME, rest)
    await this.#ended(0)
  }

  /** Ends what is under way; done when nothing is. */
  async fail(error: unknown): Promise<void> {
    for (const writing of [this.#large, this.#small]) {
      writing?.source.fail(error)
      await writing?.done.catch(() => undefined)
    }
    await Promise.allSettled(this.#ending)
  }

  async #work(): Promise<void> {
    const steps = this.#steps
    this.#steps = []
    for (const step of steps) {
      if (this.#failure) throw this.#failure.error
      if (step === 'end') await this.#end(this.#large!)
      else if ('begin' in step) this.#large = this.#begin(step.begin)
      else if ('data' in step) await this.#large!.source.give(step.data)
      else await (this.#small ??= this.#begin(SMALL_NAME)).source.give(step.small)
    }
  }

  #begin(name: string): Writing {
    const source = new HandOver()
    const done = this.target.put(name, source)
    done.catch((error: unknown) => {
      this.#failure ??= { error }
      source.fail(error)
    })
    return { source, done }
  }

  async #end({ source, done }: Writing): Promise<void> {
    source.end()
    const ending = done.catch(() => undefined).finally(() => this.#ending.delete(ending))
    this.#ending.add(ending)
    await this.#ended(ENDING)
  }

  /** Waits until the store is finishing no more than `most` objects. */
  async #ended(most: number): Promise<void> {
    while (this.#ending.size > most) await Promise.race(this.#ending)
    if (this.#failure) throw this.#failure.error
  }
}
