import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { StrataError } from '@strata/base'
import { z } from 'zod'
import { keys } from '../keys.js'
import type { ObjectStore } from './object-store.js'
import { Records, type Found } from '../records.js'

const versionSchema = z.object({ version: z.number().int().min(1) })
const lockSchema = z.object({ owner: z.string().max(100), beat: z.number().int() })
type Lock = z.infer<typeof lockSchema>

const BEAT_MS = 1_000
/** An owner that has not written for this long, by the clock of the process that waits, is dead. */
const SILENCE_MS = 10_000
const ASK_EVERY_MS = 250

interface BucketVersionOptions {
  readonly silenceMs?: number
}

/**
 * The version of the data in a bucket: a `VersionedPlace` of `@strata/base`. The record `version`
 * holds it. A bucket has no lock that is released when its owner dies. So the lock is the record
 * `migrating`: its owner writes it every second, and an owner that did not write for 10 s has lost
 * it.
 */
export class BucketVersion {
  readonly #versions: Records<{ version: number }>
  readonly #locks: Records<Lock>

  constructor(
    readonly what: string,
    store: ObjectStore,
    private readonly options: BucketVersionOptions = {},
  ) {
    const remedy = (key: string): string =>
      `if no release newer than this one has used the bucket, delete the object ${key}, and the start looks at all data again`
    this.#versions = new Records(store, versionSchema, 'the record of', remedy)
    this.#locks = new Records(store, lockSchema, 'the record of')
  }

  /** @throws StrataError `corrupt` */
  async read(): Promise<number | undefined> {
    return (await this.#versions.read(keys.version))?.version
  }

  /** Never lowers the version: a process that lost the lock may write late. */
  async write(version: number): Promise<void> {
    await this.#versions.update(keys.version, (noted) =>
      noted !== undefined && noted.version >= version ? undefined : { version },
    )
  }

  async exclusively(work: () => Promise<void>): Promise<void> {
    const owner = randomUUID()
    await this.#take(owner)
    const ended = new AbortController()
    const beating = this.#beat(owner, ended.signal)
    try {
      await work()
    } finally {
      ended.abort()
      await beating
      await this.#release(owner)
    }
  }

  async #take(owner: string): Promise<void> {
    const silence = this.options.silenceMs ?? SILENCE_MS
    let last: { readonly seen: Found<Lock>; readonly since: number } | undefined
    for (;;) {
      const seen = await this.#locks.look(keys.migrating)
      if (seen?.etag !== last?.seen.etag) last = seen && { seen, since: performance.now() }
      const isFree =
        seen === undefined ||
        (seen.value === undefined && seen.damage === undefined) ||
        performance.now() - (last?.since ?? 0) > silence
      if (isFree && (await this.#locks.write(keys.migrating, { owner, beat: 0 }, seen)) !== undefined) return
      await delay(ASK_EVERY_MS)
    }
  }

  /**
   * Writes the lock until the signal aborts or another process has taken the lock. The migrations
   * are safe if two processes run them at once.
   */
  async #beat(owner: string, signal: AbortSignal): Promise<void> {
    for (let beat = 1; ; beat++) {
      const isOver = await delay(BEAT_MS, false, { signal }).catch(() => true)
      if (isOver) return
      try {
        const seen = await this.#locks.look(keys.migrating)
        if (seen?.value?.owner !== owner) return
        await this.#locks.write(keys.migrating, { owner, beat }, seen)
      } catch (error) {
        // The server does not answer. The next heartbeat may reach it.
        if (!(error instanceof StrataError)) throw error
      }
    }
  }

  async #release(owner: string): Promise<void> {
    const seen = await this.#locks.look(keys.migrating)
    if (seen?.value?.owner === owner) await this.#locks.retire(keys.migrating, seen)
  }
}
