import { TarReader, type TarLimits } from '@strata/archive'
import { StrataError } from '@strata/base'
import { keys, type ByteSource, type ObjectStore } from '@strata/store'
import type { Destination } from './destination.js'
import { ObjectWriter } from './object-writer.js'
import { LISTING_NAME } from './placement.js'
import { AsyncRingReader } from '../threads/ring.js'
import { WholeBody } from '../threads/whole-body.js'

/** An object that says whose the upload's data is: a `put` tells nobody that its key was used. */
const CLAIM_NAME = 'claim'

/** What was read of the upload so far. It outlives the turns. */
interface Writing {
  readonly writer: ObjectWriter
  readonly tar: TarReader | WholeBody
}

/** Objects of a store that is no folder: bytes go there from the ring while they arrive. */
export class ObjectDestination implements Destination {
  readonly folder = ''
  readonly #written: string[]
  #writing: Writing | undefined

  constructor(
    private readonly store: ObjectStore,
    private readonly upload: string,
  ) {
    // The list of what came is written by the intake itself, the last of all.
    this.#written = [CLAIM_NAME, LISTING_NAME].map((name) => keys.data(upload, name))
  }

  async claim(): Promise<void> {
    const claimed = await this.store.create(keys.data(this.upload, CLAIM_NAME), Buffer.alloc(0))
    if (claimed === undefined) throw new StrataError('internal', `the upload ${this.upload} has data already`)
  }

  async write(
    ring: SharedArrayBuffer,
    body: { readonly limits: TarLimits; readonly whole: boolean },
    stop: AbortSignal,
  ): Promise<void> {
    const { writer, tar } = (this.#writing ??= this.#begin(body, stop))
    const hasEnded = await new AsyncRingReader(ring, 'written').read((view) => {
      tar.write(view)
      return writer.handOver()
    })
    if (!hasEnded) return
    tar.end()
    await writer.handOver()
    await writer.finish()
  }

  seal(): Promise<void> {
    return Promise.resolve()
  }

  /** By the keys that it used: nothing is listed while a client waits. */
  async discard(): Promise<void> {
    await this.#writing?.writer.fail(new StrataError('cancelled', 'the upload has ended'))
    await this.store.delete(this.#written)
  }

  #begin(body: { readonly limits: TarLimits; readonly whole: boolean }, stop: AbortSignal): Writing {
    const writer = new ObjectWriter({ put: (name, source) => this.#put(name, source, stop) })
    return { writer, tar: body.whole ? new WholeBody(writer) : new TarReader(writer, body.limits) }
  }

  async #put(name: string, source: ByteSource, stop: AbortSignal): Promise<void> {
    const key = keys.data(this.upload, name)
    this.#written.push(key)
    await this.store.put(key, source, { signal: stop })
  }
}
