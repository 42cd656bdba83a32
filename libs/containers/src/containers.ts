import { failpoint, StrataError } from '@strata/base'
import { checkClaim, checkId } from './lifecycle/claim.js'
import {
  lasts,
  pendingJob,
  waitsForStart,
  type ContainerClaim,
  type ContainerExit,
  type ContainerRecord,
  type ContainerStart,
  type LaunchOptions,
} from './container.js'
import { exitOf, notFound, type Entry } from './lifecycle/entry.js'
import type { LogChunk, LogOptions } from './log/types.js'
import { Parts, type ContainersOptions } from './parts.js'
import type { ContainerListener } from './lifecycle/registry.js'
import type { RuntimeAbout } from './runtime/runtime-driver.js'
import { parseSignal, stopSignalOf } from './runtime/signals.js'

/**
 * The containers of one node: records on disk, processes under the runtime and conmon, both of
 * which outlive this. One instance a node: `open` takes a lock. All methods are safe to call side
 * by side and again after a crash.
 */
export class Containers {
  private constructor(private readonly parts: Parts) {}

  /**
   * Reconciles disk, runtime, monitors, mounts and cgroups, of this node only, then answers. A
   * start that a crash interrupted before anything ran stays `created` with `starts` above 0:
   * `launch` goes on with it. `driver_unavailable` if runc or conmon is missing, or another process
   * serves this node.
   */
  static async open(options: ContainersOptions): Promise<Containers> {
    return new Containers(await Parts.open(options))
  }

  /**
   * The runtime's version in a line (`runc version 1.3.6`), and what a person should know of it at
   * start-up (an old runc).
   */
  get runtime(): RuntimeAbout {
    return this.parts.about
  }

  /**
   * Makes the record of container `id` (64 hex digits), or answers the one that is there. Refuses,
   * and leaves nothing, what can be told to be wrong before a root is there: `bad_request`,
   * `nothing_to_run`; `container_exists` if the name is another's, `container_not_found` if `id`
   * was removed.
   */
  async claim(id: string, claim: ContainerClaim): Promise<ContainerRecord> {
    checkId(id)
    if (this.parts.store.isRemoved(id))
      throw new StrataError('container_not_found', `container ${id.slice(0, 12)} was removed`)
    const present = this.parts.registry.peek(id)
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
    const entry = this.parts.registry.enter(record)
    return await entry.alone(async () => {
      try {
        await entry.log.make()
        await this.parts.registry.save(entry, record, { durable: lasts(record) })
        return record
      } catch (error) {
        this.parts.registry.drop(entry)
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
    const entry = this.parts.registry.get(id)
    await entry.alone(async () => {
      if (entry.removed) throw notFound(id)
      const { record } = entry
      if (record.startedApart && !record.idle && pendingJob(record) === job)
        await this.parts.registry.save(entry, { ...record, job: undefined }, { durable: true })
      failpoint('create.recorded')
    })
  }

  /**
   * Notes that the request `start.job` is about to start container `id`, so that nobody takes the
   * container for one that waits. `launch` does the rest, and does not need this. A start of the
   * same number that another request has begun is the same start.
   *
   * - `due`: the start has not come to run a process yet.
   * - `done`: it has; `launch` observes.
   * - `busy`: the request that creates or launches the container is still under way.
   * @throws StrataError `container_not_found`, also for one that is removed at its end and has
   * exited; `container_running` if a later start runs; `cancelled` if the container was stopped
   * since this request began
   */
  async begin(id: string, start: ContainerStart): Promise<'due' | 'done' | 'busy'> {
    const entry = this.parts.registry.get(id)
    return await entry.alone(async () => {
      if (entry.removed) throw notFound(id)
      const { record, state } = entry
      const pending = pendingJob(record)
      // A launch that was interrupted behind its number is still its own request's.
      if (!record.idle && pending !== undefined && pending !== start.job) return 'busy'
      if (start.number <= record.starts)
        return start.number === record.starts && state.status === 'created' ? 'due' : 'done'
      this.#assertStartable(entry)
      entry.request(start.job)
      if (record.idle) return 'due'
      await this.parts.registry.save(entry, this.parts.lifecycle.bound(record, start), { durable: lasts(record) })
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
    const entry = this.parts.registry.get(id)
    const number = options.start?.number ?? 1
    return await entry.alone(async () => {
      if (entry.removed) throw notFound(id)
      if (number > entry.record.starts) {
        this.#assertStartable(entry)
        if (options.start) entry.request(options.start.job)
        await this.parts.lifecycle.start(entry, number, options)
      } else if (number === entry.record.starts && entry.state.status === 'created')
        await this.parts.lifecycle.resume(entry, await this.parts.lifecycle.observe(entry), options)
      if (options.start) entry.forgetRequest(options.start.job)
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
    const entry = this.parts.registry.peek(id)
    if (job !== undefined) entry?.forgetRequest(job)
    // Nobody waits for a turn without a reason: it may be long until then.
    if (!entry || !isBegun(entry, job)) return false
    return await entry.alone(async () => {
      const { record } = entry
      if (!isBegun(entry, job)) return false
      if (record.idle) await this.parts.lifecycle.withdraw(entry)
      else if (record.startedApart) await this.parts.remover.removeNow(entry)
      else {
        await this.parts.lifecycle.refuse(entry, record.starts + 1, error)
        return true
      }
      return false
    })
  }

  /**
   * Whether nothing is under way with container `id` right now: no launch, no end, no removal. A
   * disk that is busy makes them long. Waits for that until `signal` aborts, beside the line of
   * `begin` and `launch`, which cannot be left.
   * @throws StrataError `container_not_found`
   */
  async isFree(id: string, signal: AbortSignal): Promise<boolean> {
    return await this.parts.registry.get(id).isFree(signal)
  }

  /** `container_not_found` if there is none (any more). */
  get(id: string): ContainerRecord {
    return this.parts.registry.get(id).record
  }

  /** By id, name, or unique id prefix: `container_not_found`, `container_ambiguous`. */
  find(ref: string): ContainerRecord {
    return this.parts.registry.find(ref)
  }

  /** All, in the order of their making. */
  list(): ContainerRecord[] {
    return this.parts.registry.records()
  }

  /**
   * Answers when the container has exited, at once if it has and no start of it is under way. Also
   * before it was launched. `cancelled` when aborted, and if the start under way is withdrawn from
   * a container that never ran.
   */
  async wait(id: string, signal?: AbortSignal): Promise<ContainerExit> {
    const entry = this.parts.registry.get(id)
    const release = this.parts.autoRemove.hold(entry)
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
   * Output, also of an exited container; before it was launched too, with `follow`. A reader is for
   * the present start and those before it: it ends with that start, also if it reads so slowly that
   * a later start writes meanwhile. What is not asked for is not read. `limit_exceeded` when output
   * that this reader had not had yet was dropped.
   */
  async *logs(id: string, options: LogOptions = {}): AsyncGenerator<LogChunk, void, undefined> {
    const entry = this.parts.registry.get(id)
    const release = this.parts.autoRemove.hold(entry)
    try {
      const start = entry.presentStart
      const isUnderWay = entry.record.idle !== undefined
      // Where its output begins is known only then.
      if (options.foreground && options.follow) await entry.settled(options.signal)
      // It was withdrawn, and has written nothing: who came for it has not read the one before.
      if (options.foreground && isUnderWay && entry.isWithdrawn(start)) return
      if (options.foreground) entry.attended = true
      const from = options.foreground ? entry.record.output : undefined
      yield* entry.log.read(
        { start, ended: () => entry.hasEnded(start), onEnd: (wake) => entry.onChange(wake) },
        { ...(from && { from }), ...options },
      )
    } finally {
      release()
    }
  }

  /**
   * The stop signal (`signal`, the image's StopSignal, TERM), then KILL after `timeoutSeconds`
   * (default 10; 0 at once). Fine if it has exited, or waits for a start. Of a start that has no
   * process yet, each request that has come so far ends as `cancelled` when it comes to its next
   * step. Who can end it sooner does so.
   * @throws StrataError `container_not_running` if it is being created or launched
   */
  async stop(id: string, options: { timeoutSeconds?: number; signal?: string } = {}): Promise<ContainerExit> {
    const entry = this.parts.registry.get(id)
    entry.stopRequests()
    const start = entry.presentStart
    const send = async (signal: string, patience?: () => AbortSignal): Promise<ContainerExit | undefined> => {
      const isSent = await this.#signal(entry, signal)
      return isSent || entry.state.status === 'running' ? entry.exit(patience?.(), start) : exitOfStopped(entry)
    }
    const { config } = entry.record.image
    const timeoutSeconds = options.timeoutSeconds ?? 10
    const signal = options.signal ? parseSignal(options.signal) : stopSignalOf(config?.StopSignal)
    const patience = (): AbortSignal => AbortSignal.timeout(Math.min(timeoutSeconds * 1000, 2 ** 31 - 1))
    const exit = (timeoutSeconds > 0 && (await send(signal, patience))) || (await send('KILL'))
    if (!exit) throw notFound(id)
    return exit
  }

  /**
   * A signal by name (`TERM`, `SIGTERM`) or number, default KILL. `container_not_running` if it is
   * not.
   */
  async kill(id: string, signal = 'KILL'): Promise<void> {
    if (!(await this.#signal(this.parts.registry.get(id), parseSignal(signal))))
      throw new StrataError('container_not_running', `container ${id.slice(0, 12)} is not running`)
  }

  /**
   * Takes all of it away; a later `claim` of the id is refused. `container_running` unless `force`,
   * which kills first. Fine if removed before.
   * @throws StrataError as above; `in_use` while a process or a mount of the host uses its root
   */
  async remove(id: string, options: { force?: boolean } = {}): Promise<void> {
    if (this.parts.store.isRemoved(id) && !this.parts.registry.peek(id)) return
    const entry = this.parts.registry.get(id)
    while (!entry.removed) {
      if (entry.state.status === 'running') {
        if (!options.force)
          throw new StrataError('container_running', `container ${id.slice(0, 12)} is running: stop it first, or force`)
        await this.stop(id, { timeoutSeconds: 0 })
      }
      if ((await this.parts.remover.remove(entry)) === 'removed') return
      // A start that was before it in the line has brought the process up meanwhile.
      if (!options.force)
        throw new StrataError(
          'container_running',
          `container ${id.slice(0, 12)} has been started meanwhile: stop it first, or force`,
        )
    }
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
    const entry = this.parts.registry.peek(id)
    return entry !== undefined && this.parts.remover.isPrunable(entry)
  }

  /**
   * Removes container `id` if it is prunable and `mayGo` says so. Looks, asks and removes in the
   * container's turn: no launch comes between.
   */
  async prune(id: string, mayGo = (): Promise<boolean> => Promise.resolve(true)): Promise<boolean> {
    const entry = this.parts.registry.peek(id)
    return entry !== undefined && (await this.parts.remover.prune(entry, mayGo))
  }

  /**
   * As an open `wait` or `logs`: until the answer is called, which is to be done once, nobody
   * removes the container without naming it.
   * @throws StrataError `container_not_found`
   */
  hold(id: string): () => void {
    return this.parts.autoRemove.hold(this.parts.registry.get(id))
  }

  /** Told of each new record, and of each removed one (`undefined`). Answers how to stop it. */
  onChange(listener: ContainerListener): () => void {
    return this.parts.registry.onChange(listener)
  }

  /** Lets go of everything, after what is under way; containers run on. */
  async close(): Promise<void> {
    await this.parts.close()
  }

  #assertStartable({ record: { id, autoRemove }, state }: Entry): void {
    if (state.status === 'running')
      throw new StrataError('container_running', `container ${id.slice(0, 12)} is running`)
    if (state.status === 'exited' && autoRemove)
      throw new StrataError('container_not_found', `container ${id.slice(0, 12)} has exited and is being removed`)
    // A removal failed behind its tombstone: the next start of the service deletes the root.
    if (this.parts.store.isRemoved(id))
      throw new StrataError('container_not_found', `container ${id.slice(0, 12)} is being removed: remove it again`)
  }

  async #signal(entry: Entry, signal: string): Promise<boolean> {
    return await entry.alone(
      async () => entry.state.status === 'running' && (await this.parts.driver.kill(entry.record.id, signal)),
    )
  }
}

/**
 * Whether the request `job`, or without `job` any, has begun something with the container that has
 * not come to its end.
 */
function isBegun({ removed, record }: Entry, job: string | undefined): boolean {
  if (removed || waitsForStart(record)) return false
  if (job !== undefined && record.job !== undefined && record.job !== job) return false
  return record.state.status === 'created' || record.idle !== undefined
}

/** Of a container that has no process. */
function exitOfStopped({ removed, record }: Entry): ContainerExit {
  const state = record.idle?.state ?? record.state
  if (state.status === 'exited') return exitOf(state)
  if (removed) throw notFound(record.id)
  if (record.idle || waitsForStart(record)) return { code: 0 }
  throw new StrataError(
    'container_not_running',
    `container ${record.id.slice(0, 12)} is being created or launched: wait until it runs, or remove it (strata rm -f)`,
  )
}
