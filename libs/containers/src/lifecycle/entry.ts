import { Serial, StrataError } from '@strata/base'
import type { ContainerExit, ContainerRecord, ContainerState } from '../container.js'
import type { ContainerLog } from '../log/container-log.js'
import type { Monitor } from '../runtime/monitor.js'

/**
 * A container in memory: its record, who waits for it, and a queue through which all that changes
 * it goes, one at a time.
 */
export class Entry {
  monitor: Monitor | undefined
  /** It was removed; its id is not in the registry any more. */
  removed = false
  /** Open `wait`s and `logs`. */
  holders = 0
  /**
   * Why its last launch failed, if that was in this process: the record keeps code and sentence
   * only.
   */
  failure: StrataError | undefined
  /** Somebody was told how it ended. */
  collected = false
  /** Its foreground reader has come. */
  attended = false
  readonly #listeners = new Set<() => void>()
  readonly #changes = new Serial()

  constructor(
    public record: ContainerRecord,
    readonly log: ContainerLog,
  ) {}

  get state(): ContainerState {
    return this.record.state
  }

  get ended(): boolean {
    return this.removed || this.state.status === 'exited'
  }

  /** It is started once more: what was noted of the start before does not count. */
  begin(): void {
    this.failure = undefined
    this.collected = false
    this.attended = false
  }

  /** Runs `work` when all that was asked for before has ended. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.#changes.run(work)
  }

  /** Calls after each change of the record. Answers how to stop it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /**
   * How it ended, once it has: `undefined` when aborted before; rejects when the container is
   * removed.
   */
  async exit(signal?: AbortSignal): Promise<ContainerExit | undefined> {
    for (;;) {
      const { state } = this
      if (state.status === 'exited') {
        const { code, reason, error } = state
        return { code, ...(reason === undefined ? {} : { reason }), ...(error === undefined ? {} : { error }) }
      }
      if (this.removed) throw notFound(this.record.id)
      if (signal?.aborted) return undefined
      await new Promise<void>((resolve) => {
        const stop = this.onChange(() => done())
        const done = (): void => {
          stop()
          signal?.removeEventListener('abort', done)
          resolve()
        }
        signal?.addEventListener('abort', done)
      })
    }
  }

  changed(): void {
    for (const listener of [...this.#listeners]) listener()
  }
}

export function notFound(ref: string): StrataError {
  return new StrataError('container_not_found', `there is no container ${JSON.stringify(ref.slice(0, 64))}`)
}
