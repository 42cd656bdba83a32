import { closeSync, openSync, readFileSync } from 'node:fs'
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { flock } from '@strata/linux'
import { asStrataError, StrataError } from '@strata/oci'
import { Cgroups } from './cgroups.js'
import { argsOf, envOf, hostnameOf, workdirOf } from './command.js'
import type { ContainerClaim, ContainerExit, ContainerRecord, ContainerRoots, ContainerState } from './container.js'
import { Entry } from './entry.js'
import { findProgram } from './find-program.js'
import { killMonitors, Launcher, type Observed } from './launcher.js'
import { ContainerLog } from './log/container-log.js'
import { LOG_LIMITS, type LogChunk, type LogLimits, type LogOptions } from './log/types.js'
import type { Monitor } from './monitor.js'
import { RecordStore } from './record-store.js'
import { Runc } from './runc.js'
import type { RuntimeDriver } from './runtime-driver.js'
import { parseSignal } from './signals.js'

export interface ContainersOptions {
  /** The node's id, `[a-z0-9][a-z0-9-]*`: in the names of everything made outside the data folder. */
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
  /** How long an exited `autoRemove` container is kept for a `wait` or `logs` that has not come yet. Default 10 s. */
  readonly collectMs?: number | undefined
  /** Told of what went wrong where no caller is there to be told. */
  readonly warn?: ((message: string) => void) | undefined
}

const ID = /^[0-9a-f]{64}$/
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/
/** The exit code of what nobody saw end, as containerd's UnknownExitStatus. */
const UNKNOWN = 255
const NOT_RUN = 125
const EXIT_CODES: Partial<Record<string, number>> = { command_not_found: 127, command_not_executable: 126 }
const COLLECT_MS = 10_000
/** How many containers are looked after at once where all are: each costs a process of the runtime. */
const AT_ONCE = 4

/**
 * The containers of one node: records on disk, processes under the runtime and conmon, both of which outlive this. One instance a node: `open`
 * takes a lock. All methods are safe to call side by side and again after a crash.
 */
export class Containers {
  readonly #entries = new Map<string, Entry>()
  readonly #listeners = new Set<(id: string, record: ContainerRecord | undefined) => void>()
  readonly #bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()
  readonly #store: RecordStore
  readonly #cgroups: Cgroups
  readonly #launcher: Launcher
  readonly #driver: RuntimeDriver
  #warnings: readonly string[] = []
  #closed = false

  private constructor(private readonly options: ContainersOptions, conmon: string, private readonly lock: number) {
    this.#store = new RecordStore(options.folder)
    this.#cgroups = new Cgroups(`strata-${options.node}`)
    this.#driver = new Runc(options.runtime ?? findProgram('runc'), join(options.runFolder, 'runc'), options.runFolder)
    this.#launcher = new Launcher(this.#driver, conmon, options.roots, this.#cgroups, this.#bundles)
  }

  /**
   * Reconciles disk, runtime, monitors, mounts and cgroups, of this node only, then answers. A start that a crash interrupted before anything ran
   * stays `created` with `starts` above 0: `launch` goes on with it.
   * `driver_unavailable` if runc or conmon is missing, or another process serves this node.
   */
  static async open(options: ContainersOptions): Promise<Containers> {
    if (!/^[a-z0-9][a-z0-9-]*$/.test(options.node)) throw new StrataError('bad_request', `${JSON.stringify(options.node)} is not a node's id of lower-case letters, digits and "-"`)
    const conmon = options.conmon ?? findProgram('conmon')
    await mkdir(options.folder, { recursive: true, mode: 0o700 })
    await mkdir(options.runFolder, { recursive: true, mode: 0o700 })
    const lock = openSync(join(options.folder, 'lock'), 'w', 0o600)
    try {
      if (!flock(lock, 'ex', { nonblock: true })) throw new StrataError('driver_unavailable', `another process serves the containers in ${options.folder}`)
      const containers = new Containers(options, conmon, lock)
      await containers.#reconcile()
      return containers
    } catch (error) {
      closeSync(lock)
      throw error
    }
  }

  /** What a person should know at start-up (an old runc). */
  get warnings(): readonly string[] {
    return this.#warnings
  }

  /**
   * Makes the record of container `id` (64 hex digits), or answers the one that is there.
   * Refuses, and leaves nothing, what can be told to be wrong before a root is there: `bad_request`, `nothing_to_run`; `container_exists` if the
   * name is another's, `container_not_found` if `id` was removed.
   */
  async claim(id: string, claim: ContainerClaim): Promise<ContainerRecord> {
    if (!ID.test(id)) throw new StrataError('bad_request', `${JSON.stringify(id.slice(0, 100))} is not a container's id of 64 hex digits`)
    if (this.#store.isRemoved(id)) throw new StrataError('container_not_found', `container ${id.slice(0, 12)} was removed`)
    const present = this.#entries.get(id)
    if (present) return present.record
    checkClaim(id, claim)
    const { name } = claim
    if (name !== undefined && this.list().some((other) => other.name === name)) throw new StrataError('container_exists', `the name ${name} is another container's`)
    const record: ContainerRecord = { ...claim, version: 1, id, createdAt: new Date().toISOString(), starts: 0, state: { status: 'created' } }
    // In the registry before the first wait: of two claims of an id, or of a name, the second meets the first.
    const entry = this.#enter(record)
    return await entry.alone(async () => {
      try {
        await entry.log.make()
        await this.#save(entry, record)
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
   * Start number `start` (default 1) of container `id`: answers with the record once the process runs (or has exited again).
   * At most once for a number: called again it observes, waits for a launch under way, or goes on with one that a crash interrupted.
   * `command_not_found`, `command_not_executable`, `launch_failed` and whatever the root's maker says: nothing ran, the record is `exited` with
   * 127, 126 or 125, and a call again says the same.
   * @param options.signal a launch not yet handed to the runtime stops: `cancelled`
   */
  async launch(id: string, options: { start?: number; signal?: AbortSignal } = {}): Promise<ContainerRecord> {
    const entry = this.#entry(id)
    const start = options.start ?? 1
    return await entry.alone(async () => {
      if (entry.removed) throw notFound(id)
      if (start > entry.record.starts) {
        if (entry.state.status === 'running') throw new StrataError('container_running', `container ${id.slice(0, 12)} is running`)
        await this.#start(entry, start, options.signal)
      } else if (start === entry.record.starts && entry.state.status === 'created') await this.#resume(entry, await this.#observe(entry), options.signal)
      const { state } = entry
      if (state.status === 'exited' && state.error) throw new StrataError(state.error, state.reason ?? 'the launch failed')
      return entry.record
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

  /** Answers when the container has exited, at once if it has. Also before it was launched. Aborted: `cancelled`. */
  async wait(id: string, signal?: AbortSignal): Promise<ContainerExit> {
    const entry = this.#entry(id)
    using _hold = this.#hold(entry)
    const exit = await untilExit(entry, signal)
    if (!exit) throw new StrataError('cancelled', `nobody waits for container ${id.slice(0, 12)} any more`)
    entry.collected = true
    return exit
  }

  /**
   * Output, also of an exited container; before it was launched too, with `follow`. What is not asked for is not read.
   * `limit_exceeded` when output that this reader had not had yet was dropped.
   */
  async *logs(id: string, options: LogOptions = {}): AsyncGenerator<LogChunk, void, undefined> {
    const entry = this.#entry(id)
    using _hold = this.#hold(entry)
    yield* entry.log.read({ ended: () => entry.ended, onEnd: (wake) => entry.onChange(wake) }, options)
  }

  /** The stop signal (`signal`, the image's StopSignal, TERM), then KILL after `timeoutSeconds` (default 10; 0 at once). Fine if it has exited. */
  async stop(id: string, options: { timeoutSeconds?: number; signal?: string } = {}): Promise<ContainerExit> {
    const entry = this.#entry(id)
    const { config } = entry.record.image
    const timeoutSeconds = options.timeoutSeconds ?? 10
    const signal = options.signal ? parseSignal(options.signal) : stopSignalOf(config?.StopSignal)
    if (timeoutSeconds > 0) {
      const sent = await this.#signal(entry, signal)
      const exit = (sent || entry.ended) && await untilExit(entry, AbortSignal.timeout(Math.min(timeoutSeconds * 1000, 2 ** 31 - 1)))
      if (exit) return exit
    }
    if (!(await this.#signal(entry, 'KILL')) && entry.state.status === 'created') throw new StrataError('container_not_running', `container ${id.slice(0, 12)} was not started`)
    const exit = await untilExit(entry, undefined)
    if (!exit) throw notFound(id)
    return exit
  }

  /** A signal by name (`TERM`, `SIGTERM`) or number, default KILL. `container_not_running` if it is not. */
  async kill(id: string, signal = 'KILL'): Promise<void> {
    if (!(await this.#signal(this.#entry(id), parseSignal(signal)))) throw new StrataError('container_not_running', `container ${id.slice(0, 12)} is not running`)
  }

  /** Takes all of it away; a later `claim` of the id is refused. `container_running` unless `force`, which kills first. Fine if removed before. */
  async remove(id: string, options: { force?: boolean } = {}): Promise<void> {
    if (this.#store.isRemoved(id) && !this.#entries.has(id)) return
    const entry = this.#entry(id)
    if (entry.state.status === 'running') {
      if (!options.force) throw new StrataError('container_running', `container ${id.slice(0, 12)} is running: stop it first, or force`)
      await this.stop(id, { timeoutSeconds: 0 })
    }
    await entry.alone(async () => {
      if (entry.removed) return
      if (entry.state.status === 'running') throw new StrataError('container_running', `container ${id.slice(0, 12)} has been started meanwhile`)
      await this.#store.bury(id)
      clearTimeout(entry.patience)
      if (entry.record.starts > 0) await this.#launcher.clean(entry.record)
      await this.options.roots.remove(entry.record)
      await this.#store.drop(id)
      this.#entries.delete(id)
      entry.removed = true
      entry.changed()
      this.#tell(id, undefined)
    })
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
    for (const entry of this.#entries.values()) {
      clearTimeout(entry.patience)
      entry.log.stopKeeping()
      await entry.alone(() => Promise.resolve(entry.monitor?.release()))
    }
    this.#cgroups.tidy()
    closeSync(this.lock)
  }

  get #bundles(): string {
    return join(this.options.runFolder, 'bundles')
  }

  // ---- starting ----

  async #start(entry: Entry, number: number, signal: AbortSignal | undefined): Promise<void> {
    const record: ContainerRecord = { ...entry.record, starts: number, bootId: this.#bootId, state: { status: 'created' } }
    await this.#attempt(entry, async () => {
      // The number must be on disk before the runtime hears of the container; making root and bundle runs nothing.
      // Both to their end, whatever comes of one: what follows writes the record again.
      const steps = await Promise.allSettled([this.#save(entry, record, { durable: true }), this.#launcher.prepare(record, this.#store.folderOf(record.id))])
      for (const step of steps) if (step.status === 'rejected') throw step.reason
      signal?.throwIfAborted()
      await this.#running(entry, await this.#launcher.run(record, entry.log.path))
    }, signal)
  }

  /** Goes on with a start that is on record, from what was found of it. */
  async #resume(entry: Entry, observed: Observed, signal?: AbortSignal): Promise<void> {
    switch (observed.found) {
      case 'running':
        return await this.#running(entry, observed)
      case 'exited':
        return await this.#exited(entry, { code: observed.code })
      case 'lost':
        return await this.#exited(entry, { code: NOT_RUN, reason: 'start interrupted' })
      case 'failed':
        return await this.#failed(entry, observed.error)
      case 'nothing':
        return await this.#attempt(entry, async () => {
          await this.#launcher.clean(entry.record)
          await this.#launcher.prepare(entry.record, this.#store.folderOf(entry.record.id))
          signal?.throwIfAborted()
          await this.#running(entry, await this.#launcher.run(entry.record, entry.log.path))
        }, signal)
    }
  }

  async #attempt(entry: Entry, work: () => Promise<void>, signal: AbortSignal | undefined): Promise<void> {
    try {
      await work()
    } catch (error) {
      await this.#failed(entry, signal?.aborted ? new StrataError('cancelled', 'the launch was cancelled', { cause: error }) : asStrataError(error))
    }
  }

  async #failed(entry: Entry, error: StrataError): Promise<void> {
    await this.#exited(entry, { code: EXIT_CODES[error.code] ?? NOT_RUN, reason: error.message, error: error.code })
  }

  async #running(entry: Entry, { pid, monitor }: { readonly pid: number; readonly monitor: Monitor }): Promise<void> {
    entry.monitor = monitor
    const startedAt = entry.state.status === 'running' ? entry.state.startedAt : new Date().toISOString()
    await this.#save(entry, { ...entry.record, state: { status: 'running', pid, startedAt } })
    entry.log.keep(this.#launcher.bundleOf(entry.record.id))
    if (entry.record.attached) {
      entry.log.expectReader(true)
      setTimeout(() => entry.log.expectReader(false), this.#collectMs).unref()
    }
    void monitor.ended.then(() => entry.alone(() => this.#ended(entry))).catch((error: unknown) => this.#warn(entry, 'cannot record the end of', error))
  }

  /** Its monitor has ended. */
  async #ended(entry: Entry): Promise<void> {
    if (this.#closed || entry.state.status !== 'running') return
    const observed = await this.#observe(entry)
    if (observed.found === 'exited') await this.#exited(entry, { code: observed.code })
    else await this.#exited(entry, { code: UNKNOWN, reason: 'its monitor was killed, so its process was too' })
  }

  /** The end of a start. The record first: whoever starts anew after it only has to clean. */
  async #exited(entry: Entry, exit: { code: number; reason?: string; error?: StrataError['code'] }): Promise<void> {
    const startedAt = entry.state.status === 'running' ? { startedAt: entry.state.startedAt } : {}
    const state: ContainerState = { status: 'exited', ...exit, ...startedAt, finishedAt: new Date().toISOString() }
    entry.log.stopKeeping()
    entry.monitor = undefined
    await this.#save(entry, { ...entry.record, state })
    await this.#clean(entry)
    this.#considerRemoval(entry)
  }

  async #clean(entry: Entry): Promise<void> {
    try {
      await this.#launcher.clean(entry.record)
    } catch (error) {
      this.#warn(entry, 'cannot clean up after', error)
    }
  }

  /** In the boot of the start; after another nothing of it can be there, and the runtime's word is worth nothing. */
  async #observe(entry: Entry): Promise<Observed> {
    return entry.record.bootId === this.#bootId ? await this.#launcher.observe(entry.record) : { found: 'lost' }
  }

  // ---- autoRemove ----

  get #collectMs(): number {
    return this.options.collectMs ?? COLLECT_MS
  }

  #hold(entry: Entry): Disposable {
    entry.holders++
    return {
      [Symbol.dispose]: () => {
        entry.holders--
        this.#considerRemoval(entry)
      },
    }
  }

  /** Removes an exited `autoRemove` container that nobody holds: at once if somebody was told of its end, else after a while. */
  #considerRemoval(entry: Entry): void {
    if (!entry.record.autoRemove || entry.state.status !== 'exited' || entry.removed || entry.holders > 0 || this.#closed) return
    clearTimeout(entry.patience)
    const go = (): void => {
      if (entry.holders > 0) return
      this.remove(entry.record.id).catch((error: unknown) => this.#warn(entry, 'cannot remove', error))
    }
    if (entry.collected) setImmediate(go)
    else entry.patience = setTimeout(go, this.#collectMs)
  }

  // ---- after a crash ----

  async #reconcile(): Promise<void> {
    const { records, leftovers } = await this.#store.open()
    for (const record of records.sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1))) this.#enter(record)
    await this.#dropStrangers(leftovers)
    const entries = [...this.#entries.values()]
    await Promise.all(Array.from({ length: AT_ONCE }, async () => {
      for (let entry = entries.shift(); entry; entry = entries.shift()) await this.#recover(entry)
    }))
    this.#warnings = await this.#driver.warnings()
  }

  async #recover(entry: Entry): Promise<void> {
    const { record, state } = entry
    await entry.log.make()
    if (state.status === 'exited') {
      if (this.#launcher.isUnclean(record.id)) await this.#clean(entry)
      this.#considerRemoval(entry)
    } else if (state.status === 'running') {
      const observed = await this.#observe(entry)
      if (observed.found === 'running' || observed.found === 'exited') await this.#resume(entry, observed)
      else await this.#exited(entry, { code: UNKNOWN, reason: record.bootId === this.#bootId ? 'its monitor was killed, so its process was too' : 'the machine was restarted' })
    } else if (record.starts > 0) {
      const observed = await this.#observe(entry)
      if (observed.found !== 'nothing') await this.#resume(entry, observed)
    }
  }

  /** What this node has in the runtime, among bundles and cgroups but not on disk; and folders whose removal was interrupted. */
  async #dropStrangers(leftovers: readonly string[]): Promise<void> {
    const bundles = await readdir(this.#bundles).catch(() => [])
    const ids = new Set([...leftovers, ...bundles, ...(await this.#driver.list()), ...this.#cgroups.list()].filter((id) => !this.#entries.has(id)))
    for (const id of ids) {
      // All that cleaning and the roots' owner need is the id: what the record said is gone.
      const stranger = { version: 1, id, createdAt: '', starts: 0, state: { status: 'created' } } as unknown as ContainerRecord
      await killMonitors(this.#launcher.bundleOf(id))
      await this.#launcher.clean(stranger)
      if (ID.test(id)) await this.options.roots.remove(stranger)
      if (leftovers.includes(id)) await this.#store.drop(id)
    }
  }

  // ---- records ----

  #enter(record: ContainerRecord): Entry {
    const log = new ContainerLog(join(this.#store.folderOf(record.id), 'log'), this.options.logLimits ?? LOG_LIMITS, (message) => this.options.warn?.(message))
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
    return await entry.alone(async () => entry.state.status === 'running' && (await this.#driver.kill(entry.record.id, signal)))
  }

  #tell(id: string, record: ContainerRecord | undefined): void {
    for (const listener of [...this.#listeners]) listener(id, record)
  }

  #warn(entry: Entry, what: string, error: unknown): void {
    this.options.warn?.(`${what} container ${entry.record.id.slice(0, 12)}: ${asStrataError(error).message}`)
  }
}

/** `undefined` when aborted; rejects when the container is removed meanwhile. */
async function untilExit(entry: Entry, signal: AbortSignal | undefined): Promise<ContainerExit | undefined> {
  for (;;) {
    const { state } = entry
    if (state.status === 'exited') return { code: state.code, ...(state.reason === undefined ? {} : { reason: state.reason }) }
    if (entry.removed) throw notFound(entry.record.id)
    if (signal?.aborted) return undefined
    await new Promise<void>((resolve) => {
      const stop = entry.onChange(() => done())
      const done = (): void => {
        stop()
        signal?.removeEventListener('abort', done)
        resolve()
      }
      signal?.addEventListener('abort', done)
    })
  }
}

function checkClaim(id: string, { image, request, name }: ContainerClaim): void {
  if (name !== undefined && !NAME.test(name)) throw new StrataError('bad_request', `${JSON.stringify(name.slice(0, 200))} is not a container's name of letters, digits, "_", "." and "-"`)
  argsOf(image, request)
  const hostname = hostnameOf(id, request, 'host')
  envOf(image.config, request, { hostname, home: '/' })
  workdirOf(image.config, request)
}

/** An image's StopSignal that names no signal is as good as none: it must not make a container unstoppable. */
function stopSignalOf(text: string | undefined): string {
  try {
    return text ? parseSignal(text) : 'TERM'
  } catch {
    return 'TERM'
  }
}

function notFound(ref: string): StrataError {
  return new StrataError('container_not_found', `there is no container ${JSON.stringify(ref.slice(0, 64))}`)
}
