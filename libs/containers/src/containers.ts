import { closeSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { flock, openOwnFile, ownFolder } from '@strata/linux'
import { asStrataError, step, StrataError } from '@strata/oci'
import { AutoRemove } from './auto-remove.js'
import { Cgroups } from './cgroups.js'
import { checkClaim, checkId, isContainerId } from './claim.js'
import {
  lasts,
  type ContainerClaim,
  type ContainerExit,
  type ContainerRecord,
  type ContainerRoots,
  type LaunchOptions,
} from './container.js'
import { Entry, notFound } from './entry.js'
import { findProgram } from './find-program.js'
import { killMonitors, Launcher } from './launcher.js'
import { Lifecycle } from './lifecycle.js'
import { ContainerLog } from './log/container-log.js'
import { LOG_LIMITS, type LogChunk, type LogLimits, type LogOptions } from './log/types.js'
import { dropPipeNames } from './pipe.js'
import { RecordStore, type UnreadableContainer } from './record-store.js'
import { Runc } from './runc.js'
import type { RuntimeAbout, RuntimeDriver } from './runtime-driver.js'
import { parseSignal, stopSignalOf } from './signals.js'

export interface ContainersOptions {
  /**
   * The node's id, `[a-z0-9][a-z0-9-]*`: in the names of everything made outside the data folder.
   */
  readonly node: string
  /** On disk: records and logs. */
  readonly folder: string
  /** On a tmpfs, `/run/strata/<node>`: bundles with exit codes, the runtime's state. */
  readonly runFolder: string
  readonly roots: ContainerRoots
  /** The OCI runtime: an absolute path; found by name (`runc`) if left out. */
  readonly runtime?: string | undefined
  readonly conmon?: string | undefined
  readonly logLimits?: LogLimits | undefined
  /**
   * How long an exited `autoRemove` container is kept for a `wait` or `logs` that has not come yet.
   * Default 10 s.
   */
  readonly collectMs?: number | undefined
  /** Told of what went wrong where no caller is there to be told. */
  readonly warn?: ((message: string) => void) | undefined
}

const COLLECT_MS = 10_000
/**
 * How many containers are looked after at once where all are: each costs a process of the runtime.
 */
const AT_ONCE = 4

/**
 * The containers of one node: records on disk, processes under the runtime and conmon, both of
 * which outlive this. One instance a node: `open` takes a lock. All methods are safe to call side
 * by side and again after a crash.
 */
export class Containers {
  readonly #entries = new Map<string, Entry>()
  readonly #listeners = new Set<(id: string, record: ContainerRecord | undefined) => void>()
  readonly #store: RecordStore
  readonly #cgroups: Cgroups
  readonly #launcher: Launcher
  readonly #lifecycle: Lifecycle
  readonly #driver: RuntimeDriver
  readonly #autoRemove: AutoRemove
  readonly #collectMs: number
  #about: RuntimeAbout = { version: '', warnings: [] }
  #closed = false

  private constructor(
    private readonly options: ContainersOptions,
    conmon: string,
    private readonly lock: number,
  ) {
    this.#store = new RecordStore(options.folder)
    this.#cgroups = new Cgroups(`strata-${options.node}`)
    this.#driver = new Runc(options.runtime ?? findProgram('runc'), join(options.runFolder, 'runc'), options.runFolder)
    const collectMs = (this.#collectMs = options.collectMs ?? COLLECT_MS)
    this.#autoRemove = new AutoRemove(collectMs, async (entry) => {
      await this.remove(entry.record.id).catch((error: unknown) => this.#warn(entry, 'cannot remove', error))
    })
    this.#launcher = new Launcher(
      this.#driver,
      conmon,
      options.roots,
      this.#cgroups,
      this.#bundles,
      (options.logLimits ?? LOG_LIMITS).unattendedBytes,
    )
    this.#lifecycle = new Lifecycle({
      launcher: this.#launcher,
      collectMs,
      folderOf: (id) => this.#store.folderOf(id),
      save: (entry, record, how) => this.#save(entry, record, how),
      exited: (entry) => this.#autoRemove.consider(entry),
      isClosed: () => this.#closed,
      warn: (entry, what, error) => this.#warn(entry, what, error),
    })
  }

  /**
   * Reconciles disk, runtime, monitors, mounts and cgroups, of this node only, then answers. A
   * start that a crash interrupted before anything ran stays `created` with `starts` above 0:
   * `launch` goes on with it. `driver_unavailable` if runc or conmon is missing, or another process
   * serves this node.
   */
  static async open(options: ContainersOptions): Promise<Containers> {
    if (!/^[a-z0-9][a-z0-9-]*$/.test(options.node))
      throw new StrataError(
        'bad_request',
        `${JSON.stringify(options.node)} is not a node's id of lower-case letters, digits and "-"`,
      )
    const conmon = options.conmon ?? findProgram('conmon')
    ownFolder(options.folder)
    ownFolder(options.runFolder)
    const lock = openOwnFile(join(options.folder, 'lock'))
    try {
      if (!flock(lock, 'ex', { nonblock: true }))
        throw new StrataError('driver_unavailable', `another process serves the containers in ${options.folder}`)
      dropPipeNames(options.runFolder)
      const containers = new Containers(options, conmon, lock)
      await containers.#reconcile()
      return containers
    } catch (error) {
      closeSync(lock)
      throw error
    }
  }

  /**
   * The runtime's version in a line (`runc version 1.3.6`), and what a person should know of it at
   * start-up (an old runc).
   */
  get runtime(): RuntimeAbout {
    return this.#about
  }

  /**
   * Makes the record of container `id` (64 hex digits), or answers the one that is there. Refuses,
   * and leaves nothing, what can be told to be wrong before a root is there: `bad_request`,
   * `nothing_to_run`; `container_exists` if the name is another's, `container_not_found` if `id`
   * was removed.
   */
  async claim(id: string, claim: ContainerClaim): Promise<ContainerRecord> {
    checkId(id)
    if (this.#store.isRemoved(id))
      throw new StrataError('container_not_found', `container ${id.slice(0, 12)} was removed`)
    const present = this.#entries.get(id)
    if (present) return present.record
    checkClaim(id, claim)
    const { name } = claim
    if (name !== undefined && this.list().some((other) => other.name === name))
      throw new StrataError('container_exists', `the name ${name} is another container's`)
    const record: ContainerRecord = {
      ...claim,
      version: 1,
      id,
      createdAt: new Date().toISOString(),
      starts: 0,
      state: { status: 'created' },
    }
    // In the registry before the first wait: of two claims of an id, or of a name, the second meets
    // the first.
    const entry = this.#enter(record)
    return await entry.alone(async () => {
      try {
        await entry.log.make()
        await this.#save(entry, record, { durable: lasts(record) })
        return record
      } catch (error) {
        this.#entries.delete(id)
        entry.removed = true
        entry.changed()
        throw error
      }
    })
  }

  /**
   * Start number `start` (default 1) of container `id`: answers with the record once the process
   * runs (or has exited again). At most once for a number: called again it observes, waits for a
   * launch under way, or goes on with one that a crash interrupted. `command_not_found`,
   * `command_not_executable`, `launch_failed` and whatever the root's maker says: nothing ran, the
   * record is `exited` with 127, 126 or 125, and a call again says the same.
   * @throws StrataError as above; `cancelled`; what `options.assertOwned` rejects with
   */
  async launch(id: string, options: LaunchOptions = {}): Promise<ContainerRecord> {
    const entry = this.#entry(id)
    const start = options.start ?? 1
    return await entry.alone(async () => {
      if (entry.removed) throw notFound(id)
      if (start > entry.record.starts) {
        if (entry.state.status === 'running')
          throw new StrataError('container_running', `container ${id.slice(0, 12)} is running`)
        await this.#lifecycle.start(entry, start, options)
      } else if (start === entry.record.starts && entry.state.status === 'created')
        await this.#lifecycle.resume(entry, await this.#lifecycle.observe(entry), options)
      const { state } = entry
      if (state.status === 'exited' && state.error)
        throw new StrataError(state.error, state.reason ?? 'the launch failed', { cause: entry.failure })
      return entry.record
    })
  }

  /**
   * Nobody will go on with the launch of a container that is still `created`: its record says so,
   * with `error`. Nothing for one that has come further, also by a launch that was under way when
   * this was asked.
   */
  async giveUp(id: string, error: StrataError): Promise<void> {
    const entry = this.#entries.get(id)
    await entry?.alone(async () => {
      if (!entry.removed && entry.state.status === 'created')
        await this.#lifecycle.refuse(entry, entry.record.starts + 1, error)
    })
  }

  /** `container_not_found` if there is none (any more). */
  get(id: string): ContainerRecord {
    return this.#entry(id).record
  }

  /** By id, name, or unique id prefix: `container_not_found`, `container_ambiguous`. */
  find(ref: string): ContainerRecord {
    const all = this.list()
    const exact = all.find((record) => record.id === ref) ?? all.find((record) => record.name === ref)
    if (exact) return exact
    const [first, second] = /^[0-9a-f]+$/.test(ref) ? all.filter((record) => record.id.startsWith(ref)) : []
    if (!first) throw notFound(ref)
    if (second) throw new StrataError('container_ambiguous', `${ref} is the beginning of more than one container's id`)
    return first
  }

  /** All, in the order of their making. */
  list(): ContainerRecord[] {
    return [...this.#entries.values()].map((entry) => entry.record)
  }

  /**
   * Answers when the container has exited, at once if it has. Also before it was launched. Aborted:
   * `cancelled`.
   */
  async wait(id: string, signal?: AbortSignal): Promise<ContainerExit> {
    const entry = this.#entry(id)
    const release = this.#autoRemove.hold(entry)
    try {
      const exit = await entry.exit(signal)
      if (!exit) throw new StrataError('cancelled', `nobody waits for container ${id.slice(0, 12)} any more`)
      entry.collected = true
      return exit
    } finally {
      release()
    }
  }

  /**
   * Output, also of an exited container; before it was launched too, with `follow`. What is not
   * asked for is not read. `limit_exceeded` when output that this reader had not had yet was
   * dropped.
   */
  async *logs(id: string, options: LogOptions = {}): AsyncGenerator<LogChunk, void, undefined> {
    const entry = this.#entry(id)
    if (options.foreground) entry.attended = true
    const release = this.#autoRemove.hold(entry)
    try {
      yield* entry.log.read({ ended: () => entry.ended, onEnd: (wake) => entry.onChange(wake) }, options)
    } finally {
      release()
    }
  }

  /**
   * The stop signal (`signal`, the image's StopSignal, TERM), then KILL after `timeoutSeconds`
   * (default 10; 0 at once). Fine if it has exited.
   */
  async stop(id: string, options: { timeoutSeconds?: number; signal?: string } = {}): Promise<ContainerExit> {
    const entry = this.#entry(id)
    const { config } = entry.record.image
    const timeoutSeconds = options.timeoutSeconds ?? 10
    const signal = options.signal ? parseSignal(options.signal) : stopSignalOf(config?.StopSignal)
    if (timeoutSeconds > 0) {
      const sent = await this.#signal(entry, signal)
      const exit =
        (sent || entry.ended) && (await entry.exit(AbortSignal.timeout(Math.min(timeoutSeconds * 1000, 2 ** 31 - 1))))
      if (exit) return exit
    }
    if (!(await this.#signal(entry, 'KILL')) && entry.state.status === 'created')
      throw new StrataError('container_not_running', `container ${id.slice(0, 12)} was not started`)
    const exit = await entry.exit(undefined)
    if (!exit) throw notFound(id)
    return exit
  }

  /**
   * A signal by name (`TERM`, `SIGTERM`) or number, default KILL. `container_not_running` if it is
   * not.
   */
  async kill(id: string, signal = 'KILL'): Promise<void> {
    if (!(await this.#signal(this.#entry(id), parseSignal(signal))))
      throw new StrataError('container_not_running', `container ${id.slice(0, 12)} is not running`)
  }

  /**
   * Takes all of it away; a later `claim` of the id is refused. `container_running` unless `force`,
   * which kills first. Fine if removed before.
   */
  async remove(id: string, options: { force?: boolean } = {}): Promise<void> {
    if (this.#store.isRemoved(id) && !this.#entries.has(id)) return
    const entry = this.#entry(id)
    if (entry.state.status === 'running') {
      if (!options.force)
        throw new StrataError('container_running', `container ${id.slice(0, 12)} is running: stop it first, or force`)
      await this.stop(id, { timeoutSeconds: 0 })
    }
    await entry.alone(async () => {
      if (entry.removed) return
      if (entry.state.status === 'running')
        throw new StrataError('container_running', `container ${id.slice(0, 12)} has been started meanwhile`)
      await this.#takeAway(entry)
    })
  }

  /**
   * Whether container `id` may be removed by someone who did not name it: it has exited, and nobody
   * is owed its end. False for one that is being launched or runs, for one that goes by itself
   * (`autoRemove`), and while a `wait`, a reader of the log or the foreground reader that its maker
   * announced has it open or may still come. This is the only rule for that. A list of states that
   * a client has read is old when it comes back.
   */
  isPrunable(id: string): boolean {
    const entry = this.#entries.get(id)
    if (!entry || entry.removed) return false
    const { state, record } = entry
    if (state.status !== 'exited' || record.autoRemove || entry.holders > 0) return false
    return !record.attached || entry.attended || Date.now() - Date.parse(state.finishedAt) > this.#collectMs
  }

  /**
   * Removes container `id` if it is prunable. Looks and removes in the container's turn: no launch
   * comes between.
   */
  async prune(id: string): Promise<boolean> {
    const entry = this.#entries.get(id)
    if (!entry) return false
    return await entry.alone(async () => {
      if (!this.isPrunable(id)) return false
      await this.#takeAway(entry)
      return true
    })
  }

  /** In the container's turn. */
  async #takeAway(entry: Entry): Promise<void> {
    const { id } = entry.record
    await this.#store.bury(id)
    step('remove.container-buried')
    if (this.#launcher.isUnclean(id)) await this.#launcher.clean(entry.record)
    await this.options.roots.remove(entry.record)
    step('remove.root-removed')
    await this.#store.drop(id)
    step('remove.record-dropped')
    this.#entries.delete(id)
    entry.removed = true
    entry.changed()
    this.#tell(id, undefined)
  }

  /** Told of each new record, and of each removed one (`undefined`). Answers how to stop it. */
  onChange(listener: (id: string, record: ContainerRecord | undefined) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Lets go of everything, after what is under way; containers run on. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#autoRemove.close()
    for (const entry of this.#entries.values()) {
      entry.log.stopKeeping()
      await entry.alone(() => Promise.resolve(entry.monitor?.release()))
    }
    this.#cgroups.tidy()
    closeSync(this.lock)
  }

  get #bundles(): string {
    return join(this.options.runFolder, 'bundles')
  }

  // ---- after a crash ----

  async #reconcile(): Promise<void> {
    const { records, leftovers, unreadable } = await this.#store.open()
    for (const record of records.sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1))) this.#enter(record)
    for (const container of unreadable) await this.#putAside(container)
    await this.#dropStrangers(leftovers, unreadable)
    const entries = [...this.#entries.values()]
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (let entry = entries.shift(); entry; entry = entries.shift()) {
          await entry.log.make()
          // One container must not keep the others from being served. What it is will be seen at
          // the next start.
          await this.#lifecycle
            .recover(entry)
            .catch((error: unknown) => this.#warn(entry, 'cannot tell what became of', error))
        }
      }),
    )
    this.#about = await this.#driver.about()
  }

  /**
   * A container whose record cannot be read. Nobody could stop it any more, so what runs of it
   * ends, and its name is free. What it has written may be all that somebody has of his work: that
   * stays, with its folder, until sixteen newer ones came.
   */
  async #putAside({ id, why }: UnreadableContainer): Promise<void> {
    const name = `container ${id.slice(0, 12)}`
    try {
      await killMonitors(this.#launcher.bundleOf(id))
      await this.#launcher.clean({ id })
      const aside = await this.#store.putAside(id)
      this.options.warn?.(
        `${why}: ${name} is not served any more, and ended if it ran; its folder is kept as ${aside}, and what it wrote under its id among the snapshots`,
      )
      for (const old of await this.#store.asideBeyond()) {
        await this.options.roots.remove({ id: old })
        await this.#store.dropAside(old)
      }
    } catch (error) {
      this.options.warn?.(`${why}: ${name} cannot be put aside: ${asStrataError(error).message}`)
    }
  }

  /**
   * What this node has in the runtime, among bundles and cgroups but not on disk; and folders whose
   * removal was interrupted.
   */
  async #dropStrangers(leftovers: readonly string[], unreadable: readonly UnreadableContainer[]): Promise<void> {
    const bundles = await readdir(this.#bundles).catch(() => [])
    const known = new Set([...this.#entries.keys(), ...unreadable.map(({ id }) => id)])
    const ids = new Set(
      [...leftovers, ...bundles, ...(await this.#driver.list()), ...this.#cgroups.list()].filter(
        (id) => !known.has(id),
      ),
    )
    for (const id of ids) {
      await killMonitors(this.#launcher.bundleOf(id))
      await this.#launcher.clean({ id })
      if (isContainerId(id)) await this.options.roots.remove({ id })
      if (leftovers.includes(id)) await this.#store.drop(id)
    }
  }

  // ---- records ----

  #enter(record: ContainerRecord): Entry {
    const log = new ContainerLog(
      join(this.#store.folderOf(record.id), 'log'),
      this.options.logLimits ?? LOG_LIMITS,
      (message) => this.options.warn?.(message),
    )
    const entry = new Entry(record, log)
    this.#entries.set(record.id, entry)
    return entry
  }

  #entry(id: string): Entry {
    const entry = this.#entries.get(id)
    if (!entry) throw notFound(id)
    return entry
  }

  async #save(entry: Entry, record: ContainerRecord, options = { durable: false }): Promise<void> {
    await this.#store.save(record, options)
    entry.record = record
    entry.changed()
    this.#tell(record.id, record)
  }

  async #signal(entry: Entry, signal: string): Promise<boolean> {
    return await entry.alone(
      async () => entry.state.status === 'running' && (await this.#driver.kill(entry.record.id, signal)),
    )
  }

  #tell(id: string, record: ContainerRecord | undefined): void {
    for (const listener of [...this.#listeners]) listener(id, record)
  }

  #warn(entry: Entry, what: string, error: unknown): void {
    this.options.warn?.(`${what} container ${entry.record.id.slice(0, 12)}: ${asStrataError(error).message}`)
  }
}
