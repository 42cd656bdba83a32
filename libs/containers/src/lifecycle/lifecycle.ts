import { asStrataError, failpoint, StrataError } from '@strata/base'
import { bootId } from '@strata/linux'
import {
  lasts,
  waitsForStart,
  type ContainerRecord,
  type ContainerStart,
  type ContainerState,
  type LaunchOptions,
} from '../container.js'
import type { Entry } from './entry.js'
import type { Launcher, Observed, Started } from './launcher.js'

/** The exit code of what nobody saw end, as containerd's UnknownExitStatus. */
const UNKNOWN = 255
const NOT_RUN = 125
const EXIT_CODES: Partial<Record<string, number>> = { command_not_found: 127, command_not_executable: 126 }

/** What a lifecycle needs of its node. */
export interface LifecycleNode {
  readonly launcher: Launcher
  readonly collectMs: number
  folderOf(id: string): string
  save(entry: Entry, record: ContainerRecord, options?: { durable: boolean }): Promise<void>
  /** A container has exited, is recorded and cleaned. */
  exited(entry: Entry): void
  /** The service lets go: what ends now is the next one's to record. */
  isClosed(): boolean
  warn(entry: Entry, what: string, error: unknown): void
}

/**
 * A container's way through its states: created, running, exited. Every method is called in the
 * entry's turn (`alone`).
 */
export class Lifecycle {
  readonly #bootId = bootId()

  constructor(private readonly node: LifecycleNode) {}

  /**
   * Records the number, then runs. Does not throw for what the record then says: `exited` with the
   * error.
   * @throws what `assertOwned` rejects with; the record is `created` then. `cancelled` for a start
   * that was withdrawn
   */
  async start(entry: Entry, number: number, options: LaunchOptions): Promise<void> {
    const before = entry.record
    const { start } = options
    const record: ContainerRecord = {
      ...(start ? this.bound(before, start) : before),
      starts: number,
      bootId: this.#bootId,
      state: { status: 'created' },
    }
    // At once, so that whatever goes wrong from here on is recorded as this start's end.
    entry.record = record
    if (before.state.status === 'exited') entry.begin()
    let isNumbered = false
    const attempt = async (confirm: () => Promise<void>): Promise<Started> => {
      options.signal?.throwIfAborted()
      // An earlier start may not have been cleaned up after.
      if (this.node.launcher.isUnclean(record.id)) await this.node.launcher.clean(record)
      const numbered = { ...record, ...(start && { output: await entry.log.begin(number) }) }
      // The number must be on disk before the runtime hears of the container; making root and
      // bundle runs nothing. Both to their end, whatever comes of one: what follows writes the
      // record again.
      const steps = await Promise.allSettled([
        this.#number(entry, numbered).then(() => (isNumbered = true)),
        this.node.launcher.prepare(record, this.node.folderOf(record.id)),
      ])
      for (const step of steps) if (step.status === 'rejected') throw step.reason
      options.signal?.throwIfAborted()
      return await this.node.launcher.run(record, entry.log.path, confirm)
    }
    await this.#attempt(entry, options, attempt, async () => {
      await this.clean(entry)
      // The next run writes the number itself if this one did not.
      if (isNumbered) return
      entry.record = before
      entry.takeBack()
    })
  }

  /** The record of a container that the request `start.job` is about to start. */
  bound(record: ContainerRecord, { job, attached }: ContainerStart): ContainerRecord {
    const { state, starts, output } = record
    const now = state.status === 'running' ? undefined : { state, starts, output, attached: record.attached }
    return { ...record, job, attached, idle: record.idle ?? now }
  }

  /** Ends the start under way before its process runs: the container is again what it was. */
  async withdraw(entry: Entry): Promise<void> {
    const { record } = entry
    if (!record.idle) return
    // First: what is on record as idle is not looked after by anybody.
    if (this.node.launcher.isUnclean(record.id)) await this.clean(entry)
    const { state, starts, output, attached } = record.idle
    // What was noted of the last start was reset only if this one came to change the record.
    if (record.starts > starts && state.status === 'exited') entry.takeBack()
    await this.node.save(
      entry,
      { ...record, state, starts, output, attached, idle: undefined, job: undefined },
      { durable: lasts(record) },
    )
  }

  async #number(entry: Entry, record: ContainerRecord): Promise<void> {
    await this.node.save(entry, record, { durable: true })
    failpoint('launch.numbered')
  }

  /** Records a start that cannot even be tried: `exited` with the error. */
  async refuse(entry: Entry, number: number, error: StrataError): Promise<void> {
    entry.record = { ...entry.record, starts: number, bootId: this.#bootId }
    await this.#failed(entry, error)
  }

  /**
   * Goes on with a start that is on record, from what was found of it.
   * @throws what `assertOwned` rejects with; the record is `created` then
   */
  async resume(entry: Entry, observed: Observed, options: LaunchOptions = {}): Promise<void> {
    const { launcher } = this.node
    switch (observed.found) {
      case 'running':
        return await this.#running(entry, observed)
      case 'exited':
        return await this.#exited(entry, { code: observed.code })
      case 'lost':
        return await this.#exited(entry, { code: NOT_RUN, reason: 'start interrupted' })
      case 'failed':
        return await this.#failed(entry, observed.error)
      case 'created':
        return await this.#attempt(
          entry,
          options,
          (confirm) => launcher.startCreated(entry.record, observed, confirm),
          // It stays for the owner: an earlier process of this service created it, and its own
          // `start` may still be under way. To delete the container could end a process that runs.
          () => Promise.resolve(observed.monitor.release()),
        )
      case 'nothing':
        return await this.#attempt(entry, options, async (confirm) => {
          await launcher.clean(entry.record)
          await launcher.prepare(entry.record, this.node.folderOf(entry.record.id))
          options.signal?.throwIfAborted()
          return await launcher.run(entry.record, entry.log.path, confirm)
        })
    }
  }

  /**
   * Runs `work` up to the running process, and records a failure as the end of this start. If
   * `assertOwned` rejects before the process is started, `undo` runs instead and that error is
   * thrown. Afterwards it is too late for that: the process may have run.
   */
  async #attempt(
    entry: Entry,
    { signal, assertOwned }: LaunchOptions,
    work: (confirm: () => Promise<void>) => Promise<Started>,
    undo: () => Promise<void> = () => this.clean(entry),
  ): Promise<void> {
    const right: { isUsed: boolean; lost?: { readonly reason: unknown } } = { isUsed: false }
    const assert = async (): Promise<void> => {
      try {
        await assertOwned?.()
      } catch (reason) {
        right.lost ??= { reason }
        throw reason
      }
    }
    try {
      const started = await work(async () => {
        await assert()
        signal?.throwIfAborted()
        right.isUsed = true
      })
      await this.#running(entry, started)
    } catch (error) {
      if (!right.isUsed && !right.lost) await assert().catch(() => undefined)
      if (right.lost) {
        await undo()
        throw right.lost.reason
      }
      const failure = new StrataError('cancelled', 'the launch was cancelled', { cause: error })
      if (signal?.aborted && !right.isUsed && entry.record.idle) {
        await this.withdraw(entry)
        throw failure
      }
      await this.#failed(entry, signal?.aborted ? failure : asStrataError(error))
    }
  }

  async #failed(entry: Entry, error: StrataError): Promise<void> {
    entry.failure = error
    await this.#exited(entry, { code: EXIT_CODES[error.code] ?? NOT_RUN, reason: error.message, error: error.code })
  }

  async #running(entry: Entry, { pid, monitor }: Started): Promise<void> {
    entry.monitor = monitor
    const startedAt = entry.state.status === 'running' ? entry.state.startedAt : new Date().toISOString()
    await this.node.save(
      entry,
      { ...entry.record, idle: undefined, state: { status: 'running', pid, startedAt } },
      { durable: lasts(entry.record) },
    )
    failpoint('launch.running-recorded')
    entry.log.keep(this.node.launcher.bundleOf(entry.record.id))
    if (entry.record.attached && !entry.attended) entry.log.expectReader(this.node.collectMs)
    void monitor.ended
      .then(() => entry.alone(() => this.#ended(entry)))
      .catch((error: unknown) => this.node.warn(entry, 'cannot record the end of', error))
  }

  /** Its monitor has ended. */
  async #ended(entry: Entry): Promise<void> {
    if (this.node.isClosed() || entry.state.status !== 'running') return
    const observed = await this.observe(entry)
    if (observed.found === 'exited') await this.#exited(entry, { code: observed.code })
    else await this.#unwatched(entry, 'its monitor was killed, so its process was too')
  }

  /**
   * Nobody knows how the process ends, nor whether it has. So it is ended before that is recorded:
   * a full disk may not take the record.
   */
  async #unwatched(entry: Entry, reason: string): Promise<void> {
    await this.clean(entry)
    await this.#exited(entry, { code: UNKNOWN, reason })
  }

  /** The end of a start. The record first: whoever starts anew after it only has to clean. */
  async #exited(entry: Entry, exit: { code: number; reason?: string; error?: StrataError['code'] }): Promise<void> {
    const startedAt = entry.state.status === 'running' ? { startedAt: entry.state.startedAt } : {}
    const state: ContainerState = { status: 'exited', ...exit, ...startedAt, finishedAt: new Date().toISOString() }
    entry.log.stopKeeping()
    entry.monitor = undefined
    const record: ContainerRecord = { ...entry.record, idle: undefined, state }
    try {
      await this.node.save(entry, record, { durable: lasts(record) })
    } catch (error) {
      // Who waits is told all the same. Nothing is cleaned: with the bundle the exit code stays,
      // and the next service reads it there.
      this.node.warn(entry, 'cannot record the end of', error)
      entry.record = record
      entry.changed()
      return
    }
    failpoint('launch.exit-recorded')
    await this.clean(entry)
    failpoint('launch.cleaned')
    this.node.exited(entry)
  }

  async clean(entry: Entry): Promise<void> {
    try {
      await this.node.launcher.clean(entry.record)
    } catch (error) {
      this.node.warn(entry, 'cannot clean up after', error)
    }
  }

  /**
   * In the boot of the start; after another nothing of it can be there, and the runtime's word is
   * worth nothing.
   */
  async observe(entry: Entry): Promise<Observed> {
    return entry.record.bootId === this.#bootId ? await this.node.launcher.observe(entry.record) : { found: 'lost' }
  }

  /**
   * After a crash: brings the record to what is. A start that ran nothing is left for `launch` to
   * go on with, also where the runtime has created the container: only the caller can tell whether
   * it may still be started.
   */
  async recover(entry: Entry): Promise<void> {
    const { record, state } = entry
    if (state.status === 'exited') {
      if (this.node.launcher.isUnclean(record.id)) await this.clean(entry)
      this.node.exited(entry)
    } else if (state.status === 'running') {
      const observed = await this.observe(entry)
      if (observed.found === 'running' || observed.found === 'exited') await this.resume(entry, observed)
      else
        await this.#unwatched(
          entry,
          record.bootId === this.#bootId
            ? 'its monitor was killed, so its process was too'
            : 'the machine was restarted',
        )
    } else if (waitsForStart(record)) {
      if (this.node.launcher.isUnclean(record.id)) await this.clean(entry)
    } else if (record.starts > 0) {
      const observed = await this.observe(entry)
      if (observed.found === 'created') observed.monitor.release()
      else if (observed.found !== 'nothing') await this.resume(entry, observed)
    }
  }
}
