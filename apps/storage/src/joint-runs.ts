interface Run<T> {
  readonly result: Promise<T>
  readonly abort: AbortController
  waiting: number
}

/**
 * Work that one run does for all who had asked for the same (`what`) before it began: no two of the
 * same go on at once, and who comes while one is under way shares the next. A run is aborted when
 * the last of those who wait for it has given up.
 */
export class JointRuns<T> {
  readonly #next = new Map<string, Run<T>>()
  /** Ends when the last run of its kind that was asked for so far has ended. */
  readonly #last = new Map<string, Promise<void>>()

  async run(what: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    signal.throwIfAborted()
    const run = this.#next.get(what) ?? this.#plan(what, work)
    run.waiting++
    const left = Promise.withResolvers<never>()
    const leave = (): void => {
      left.reject(signal.reason)
      if (--run.waiting > 0) return
      // Whoever comes from now on must have a run of their own, not join what is being ended.
      if (this.#next.get(what) === run) this.#next.delete(what)
      run.abort.abort(signal.reason)
    }
    signal.addEventListener('abort', leave, { once: true })
    try {
      return await Promise.race([run.result, left.promise])
    } finally {
      signal.removeEventListener('abort', leave)
    }
  }

  #plan(what: string, work: (signal: AbortSignal) => Promise<T>): Run<T> {
    const abort = new AbortController()
    const begin = (): Promise<T> => {
      if (this.#next.get(what) === run) this.#next.delete(what)
      abort.signal.throwIfAborted()
      return work(abort.signal)
    }
    const run: Run<T> = { result: (this.#last.get(what) ?? Promise.resolve()).then(begin), abort, waiting: 0 }
    this.#next.set(what, run)
    const end = run.result.then(
      () => undefined,
      () => undefined,
    )
    this.#last.set(what, end)
    void end.then(() => {
      if (this.#last.get(what) === end) this.#last.delete(what)
    })
    return run
  }
}
