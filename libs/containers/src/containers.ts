import { closeSync } from 'node:fs'
import { join } from 'node:path'
import { flock, openOwnFile, ownFolder } from '@strata/linux'
import { asStrataError, failpoint, StrataError } from '@strata/base'
import { AutoRemove } from './lifecycle/auto-remove.js'
import { Cgroups } from './runtime/cgroups.js'
import { checkClaim, checkId } from './lifecycle/claim.js'
import {
  lasts,
  pendingJob,
  waitsForStart,
  type ContainerClaim,
  type ContainerExit,
  type ContainerRecord,
  type ContainerRoots,
  type ContainerStart,
  type LaunchOptions,
} from './container.js'
import { notFound, type Entry } from './lifecycle/entry.js'
import { findProgram } from './runtime/find-program.js'
import { Launcher } from './lifecycle/launcher.js'
import { Lifecycle } from './lifecycle/lifecycle.js'
import { LOG_LIMITS, type LogChunk, type LogLimits, type LogOptions } from './log/types.js'
import { dropPipeNames } from './runtime/pipe.js'
import { Reconciler } from './lifecycle/reconciler.js'
import { RecordStore } from './lifecycle/record-store.js'
import { Registry, type ContainerListener } from './lifecycle/registry.js'
import { Remover } from './lifecycle/remover.js'
import { Runc } from './runtime/runc.js'
import type { RuntimeAbout, RuntimeDriver } from './runtime/runtime-driver.js'
import { parseSignal, stopSignalOf } from './runtime/signals.js'

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
 * The containers of one node: records on disk, processes under the runtime and conmon, both of
 * which outlive this. One instance a node: `open` takes a lock. All methods are safe to call side
 * by side and again after a crash.
 */
export class Containers {
  readonly #registry: Registry
  readonly #store: RecordStore
  readonly #cgroups: Cgroups
  readonly #launcher: Launcher
  readonly #lifecycle: Lifecycle
  readonly #driver: RuntimeDriver
  readonly #remover: Remover
  readonly #autoRemove: AutoRemove
  #about: RuntimeAbout = { version: '', warnings: [] }
  #closed = false

  private constructor(
    private readonly options: ContainersOptions,
    conmon: string,
    private readonly lock: number,
  ) {
    const logLimits = options.logLimits ?? LOG_LIMITS
    this.#store = new RecordStore(options.folder)
    this.#registry = new Registry(this.#store, logLimits, (message) => options.warn?.(message))
    this.#cgroups = new Cgroups(`strata-${options.node}`)
    this.#driver = new Runc(options.runtime ?? findProgram('runc'), join(options.runFolder, 'runc'), options.runFolder)
    const collectMs = options.collectMs ?? COLLECT_MS
    this.#autoRemove = new AutoRemove(collectMs, async (entry) => {
      await this.remove(entry.record.id).catch((error: unknown) => this.#warn(entry, 'cannot remove', error))
    })
    this.#launcher = new Launcher(
      this.#driver,
      conmon,
      options.roots,
      this.#cgroups,
      this.#bundles,
      logLimits.unattendedBytes,
    )
    this.#remover = new Remover(this.#store, this.#registry, this.#launcher, options.roots, collectMs)
    this.#lifecycle = new Lifecycle({
      launcher: this.#launcher,
      collectMs,
      folderOf: (id) => this.#store.folderOf(id),
      save: (entry, record, how) => this.#registry.save(entry, record, how),
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
      const reconciler = new Reconciler({
        store: containers.#store,
        registry: containers.#registry,
        launcher: containers.#launcher,
        lifecycle: containers.#lifecycle,
        driver: containers.#driver,
        cgroups: containers.#cgroups,
        roots: options.roots,
        bundles: containers.#bundles,
        warn: (message) => options.warn?.(message),
        warnOf: (entry, what, error) => containers.#warn(entry, what, error),
      })
      await reconciler.run()
      containers.#about = await containers.#driver.about()
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
    const present = this.#registry.peek(id)
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
    const entry = this.#registry.enter(record)
    return await entry.alone(async () => {
      try {
        await entry.log.make()
        await this.#registry.save(entry, record, { durable: lasts(record) })
        return record
      } catch (error) {
        this.#registry.drop(entry)
        throw error
      }
    })
  }

  /**
   * The request `job`, which creates container `id` (`startedApart`), has done all of it. On disk
   * the container waits for a start from here on. Nothing if that is on record already.
   * @throws StrataError `container_not_found`
   */
  async ready(id: string, job: string): Promise<void> {
    const entry = this.#registry.get(id)
    await entry.alone(async () => {
      if (entry.removed) throw notFound(id)
      const { record } = entry
      if (record.startedApart && !record.idle && pendingJob(record) === job)
        await this.#registry.save(entry, { ...record, job: undefined }, { durable: true })
      failpoint('create.recorded')
    })
  }

  /**
   * Notes that the request `start.job` is about to start container `id`, so that nobody takes the
   * container for one that waits. `launch` does the rest, and does not need this.
   *
   * - `due`: the start has not come to run a process yet.
   * - `done`: it has; `launch` observes.
   * - `busy`: the request that creates or launches the container is still under way.
   * @throws StrataError `container_not_found`, also for one that is removed at its end and has
   * exited; `container_running` if a later start runs
   */
  async begin(id: string, start: ContainerStart): Promise<'due' | 'done' | 'busy'> {
    const entry = this.#registry.get(id)
    return await entry.alone(async () => {
      if (entry.removed) throw notFound(id)
      const { record, state } = entry
      const pending = pendingJob(record)
      // A launch that was interrupted behind its number is still its own request's.
      if (!record.idle && pending !== undefined && pending !== start.job) return 'busy'
      if (start.number <= record.starts)
        return start.number === record.starts && state.status === 'created' ? 'due' : 'done'
      this.#assertStartable(entry)
      if (record.idle) return 'due'
      await this.#registry.save(entry, this.#lifecycle.bound(record, start), { durable: lasts(record) })
      failpoint('start.bound')
      return 'due'
    })
  }

  /**
   * A start of container `id`: answers with the record once the process runs (or has exited again).
   * A start has a number, and happens at most once: called again, this observes, waits for a launch
   * under way, or goes on with one that a crash interrupted. `command_not_found`,
   * `command_not_executable`, `launch_failed` and whatever the root's maker says: nothing ran, the
   * record is `exited` with 127, 126 or 125, and a call again says the same.
   *
   * With `options.start` the container was there before: one that waits for a start, or has exited.
   * What it wrote into its root stays, and its log goes on. If such a start is cancelled before the
   * process runs, the container is what it was before.
   * @throws StrataError as above; `cancelled`; what `options.assertOwned` rejects with
   */
  async launch(id: string, options: LaunchOptions = {}): Promise<ContainerRecord> {
    const entry = this.#registry.get(id)
    const number = options.start?.number ?? 1
    return await entry.alone(async () => {
      if (entry.removed) throw notFound(id)
      if (number > entry.record.starts) {
        this.#assertStartable(entry)
        await this.#lifecycle.start(entry, number, options)
      } else if (number === entry.record.starts && entry.state.status === 'created')
        await this.#lifecycle.resume(entry, await this.#lifecycle.observe(entry), options)
      const { state } = entry
      if (number === entry.record.starts && state.status === 'exited' && state.error)
        throw new StrataError(state.error, state.reason ?? 'the launch failed', { cause: entry.failure })
      return entry.record
    })
  }

  /**
   * Nobody will go on with what the request `job` had begun with the container, or, without `job`,
   * with its launch. A container that has come further is left as it is, also if that was under way
   * when this was asked.
   *
   * | what was begun | the container |
   * | --- | --- |
   * | its launch | has exited, with `error` |
   * | its creation | is removed |
   * | a start of it | is what it was before |
   *
   * True if it was a launch.
   */
  async giveUp(id: string, error: StrataError, job?: string): Promise<boolean> {
    const entry = this.#registry.peek(id)
    if (!entry) return false
    return await entry.alone(async () => {
      const { record, state } = entry
      if (entry.removed || waitsForStart(record)) return false
      if (job !== undefined && record.job !== undefined && record.job !== job) return false
      if (record.idle) await this.#lifecycle.withdraw(entry)
      else if (state.status !== 'created') return false
      else if (record.startedApart) await this.#remover.removeNow(entry)
      else {
        await this.#lifecycle.refuse(entry, record.starts + 1, error)
        return true
      }
      return false
    })
  }

  /** `container_not_found` if there is none (any more). */
  get(id: string): ContainerRecord {
    return this.#registry.get(id).record
  }

  /** By id, name, or unique id prefix: `container_not_found`, `container_ambiguous`. */
  find(ref: string): ContainerRecord {
    return this.#registry.find(ref)
  }

  /** All, in the order of their making. */
  list(): ContainerRecord[] {
    return this.#registry.records()
  }

  /**
   * Answers when the container has exited, at once if it has. Also before it was launched. Aborted:
   * `cancelled`.
   */
  async wait(id: string, signal?: AbortSignal): Promise<ContainerExit> {
    const entry = this.#registry.get(id)
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
    const entry = this.#registry.get(id)
    if (options.foreground) entry.attended = true
    const release = this.#autoRemove.hold(entry)
    try {
      const from = options.foreground ? entry.record.output : undefined
      yield* entry.log.read(
        { ended: () => entry.ended, onEnd: (wake) => entry.onChange(wake) },
        { ...(from && { from }), ...options },
      )
    } finally {
      release()
    }
  }

  /**
   * The stop signal (`signal`, the image's StopSignal, TERM), then KILL after `timeoutSeconds`
   * (default 10; 0 at once). Fine if it has exited, or waits for a start.
   */
  async stop(id: string, options: { timeoutSeconds?: number; signal?: string } = {}): Promise<ContainerExit> {
    const entry = this.#registry.get(id)
    if (waitsForStart(entry.record)) return { code: 0 }
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
    if (!(await this.#signal(this.#registry.get(id), parseSignal(signal))))
      throw new StrataError('container_not_running', `container ${id.slice(0, 12)} is not running`)
  }

  /**
   * Takes all of it away; a later `claim` of the id is refused. `container_running` unless `force`,
   * which kills first. Fine if removed before.
   */
  async remove(id: string, options: { force?: boolean } = {}): Promise<void> {
    if (this.#store.isRemoved(id) && !this.#registry.peek(id)) return
    const entry = this.#registry.get(id)
    if (entry.state.status === 'running') {
      if (!options.force)
        throw new StrataError('container_running', `container ${id.slice(0, 12)} is running: stop it first, or force`)
      await this.stop(id, { timeoutSeconds: 0 })
    }
    await this.#remover.remove(entry)
  }

  /**
   * Whether container `id` may be removed by someone who did not name it: it has exited, and nobody
   * is owed its end, or it waits for a start (as docker has it). False for one that is being
   * created, launched or started, or runs, for one that is removed at its end and has exited
   * (`autoRemove`), and while a `wait`, a reader of the log or the foreground reader that its maker
   * announced has it open or may still come. This is the only rule for that. A list of states that
   * a client has read is old when it comes back.
   */
  isPrunable(id: string): boolean {
    const entry = this.#registry.peek(id)
    return entry !== undefined && this.#remover.isPrunable(entry)
  }

  /**
   * Removes container `id` if it is prunable. Looks and removes in the container's turn: no launch
   * comes between.
   */
  async prune(id: string): Promise<boolean> {
    const entry = this.#registry.peek(id)
    return entry !== undefined && (await this.#remover.prune(entry))
  }

  /** Told of each new record, and of each removed one (`undefined`). Answers how to stop it. */
  onChange(listener: ContainerListener): () => void {
    return this.#registry.onChange(listener)
  }

  /** Lets go of everything, after what is under way; containers run on. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#autoRemove.close()
    for (const entry of this.#registry.entries()) {
      entry.log.stopKeeping()
      await entry.alone(() => Promise.resolve(entry.monitor?.release()))
    }
    this.#cgroups.tidy()
    closeSync(this.lock)
  }

  #assertStartable({ record: { id, autoRemove }, state }: Entry): void {
    if (state.status === 'running')
      throw new StrataError('container_running', `container ${id.slice(0, 12)} is running`)
    if (state.status === 'exited' && autoRemove)
      throw new StrataError('container_not_found', `container ${id.slice(0, 12)} has exited and is being removed`)
  }

  get #bundles(): string {
    return join(this.options.runFolder, 'bundles')
  }

  async #signal(entry: Entry, signal: string): Promise<boolean> {
    return await entry.alone(
      async () => entry.state.status === 'running' && (await this.#driver.kill(entry.record.id, signal)),
    )
  }

  #warn(entry: Entry, what: string, error: unknown): void {
    this.options.warn?.(`${what} container ${entry.record.id.slice(0, 12)}: ${asStrataError(error).message}`)
  }
}
