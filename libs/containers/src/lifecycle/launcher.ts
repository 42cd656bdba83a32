import { existsSync } from 'node:fs'
import { readdir, readFile, readlink, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { limitFileSize, raiseLoopback } from '@strata/linux'
import { asStrataError, failpoint, StrataError } from '@strata/base'
import { prepareRoot, writeBundle } from '../runtime/bundle.js'
import type { Cgroups } from '../runtime/cgroups.js'
import type { ContainerRecord, ContainerRoots } from '../container.js'
import { Monitor, readExit } from '../runtime/monitor.js'
import type { RuntimeDriver } from '../runtime/runtime-driver.js'

/** What became of a start that was recorded. */
export type Observed =
  /** Its process runs, under this monitor. */
  | { readonly found: 'running'; readonly pid: number; readonly monitor: Monitor }
  /** It is created, under this monitor, and its process has not run: it may be started. */
  | { readonly found: 'created'; readonly pid: number; readonly monitor: Monitor }
  /** Its process has run and ended. */
  | { readonly found: 'exited'; readonly code: number }
  /** Its process has not run, and never will: it may be started. */
  | { readonly found: 'nothing' }
  /** The same, and this is why. */
  | { readonly found: 'failed'; readonly error: StrataError }
  /** Its process has run, or may have, and nobody saw it end. */
  | { readonly found: 'lost' }

/** A process that was started, under its monitor. */
export interface Started {
  readonly pid: number
  readonly monitor: Monitor
}

/** How long an orphaned monitor may take to end after its container was deleted. */
const MONITOR_MS = 5000

/**
 * One container's way from bundle to process and back, without memory: everything is asked of the
 * kernel, the runtime and the bundle.
 */
export class Launcher {
  constructor(
    private readonly driver: RuntimeDriver,
    private readonly conmon: string,
    private readonly roots: ContainerRoots,
    private readonly cgroups: Cgroups,
    private readonly bundles: string,
    /** No file of a monitor, which is to say no log, grows beyond. */
    private readonly logBytes: number,
  ) {}

  bundleOf(id: string): string {
    return join(this.bundles, id)
  }

  /**
   * Root and bundle made, nothing run. To be called only where nothing of the container can be
   * running.
   */
  async prepare(record: ContainerRecord, folder: string): Promise<void> {
    const root = await this.roots.mount(record)
    await writeBundle(this.bundleOf(record.id), await prepareRoot(record, root, folder, this.cgroups.pathOf(record.id)))
    failpoint('launch.prepared')
  }

  /**
   * From a prepared bundle to a running process. `confirm` is called directly before the process
   * is started. When it throws nothing has run, and `clean` is due.
   */
  async run(record: ContainerRecord, log: string, confirm: () => Promise<void> = noCheck): Promise<Started> {
    const monitor = Monitor.spawn({
      conmon: this.conmon,
      driver: this.driver,
      id: record.id,
      bundle: this.bundleOf(record.id),
      log,
    })
    const pid = await monitor.created
    // Now: what conmon has started so far, the container's process among it, is not limited, and
    // nothing has written yet.
    const { pid: conmon } = monitor
    if (conmon !== undefined) whileItLives(conmon, () => limitFileSize(conmon, this.logBytes))
    failpoint('launch.created')
    await this.#start(record, pid, confirm)
    failpoint('launch.started')
    if (monitor.pid !== undefined) void this.cgroups.adoptMonitor(monitor.pid)
    return { pid, monitor }
  }

  /**
   * What became of a recorded start, after a crash. A process runs only after `start` on a
   * *created* container, and only this node's service calls that; so `created` means that it has
   * not run, and that it may be started. Two starts at once do no harm: the created process passes
   * one gate once.
   *
   * Where runtime and monitor know nothing of the container, nothing ran: what has run stays
   * `stopped` in the runtime's state until it is deleted, which is done only after its end was
   * recorded. (Only within one boot: the runtime's state lies on a tmpfs. The caller looks at
   * that.)
   */
  async observe(record: ContainerRecord): Promise<Observed> {
    const bundle = this.bundleOf(record.id)
    for (;;) {
      const early = await readExit(bundle)
      if (early !== undefined) return { found: 'exited', code: early }
      const monitor = Monitor.adopt(bundle)
      const state = await this.driver.state(record.id)
      if (!monitor) {
        // Again: it may have ended between the two looks, and it writes the code before it ends.
        const code = await readExit(bundle)
        if (code !== undefined) return { found: 'exited', code }
        // Created and without a monitor: a `start` of the process that died may be on its way at
        // this very moment, so it is not safe to say "nothing".
        return { found: state ? 'lost' : 'nothing' }
      }
      if (state?.status === 'running') return { found: 'running', pid: state.pid, monitor }
      if (state?.status === 'created') return { found: 'created', pid: state.pid, monitor }
      // Still creating, or about to end: its own word or its end says how to go on.
      const word = state
        ? undefined
        : await monitor.created.then(
            () => undefined,
            (error: unknown) => asStrataError(error),
          )
      if (!word && !state) {
        monitor.release()
        continue
      }
      await monitor.ended
      if (word?.code && (await readExit(bundle)) === undefined && (await this.driver.state(record.id)) === undefined)
        return { found: 'failed', error: word }
      if (state && (await readExit(bundle)) === undefined) return { found: 'lost' }
    }
  }

  /**
   * Starts the process of a container that `observe` found created. If `confirm` rejects nothing
   * has run.
   */
  async startCreated(
    record: ContainerRecord,
    { pid, monitor }: Started,
    confirm: () => Promise<void>,
  ): Promise<Started> {
    // The service that created it may have died before it set the limit.
    for (const one of await monitorsOf(this.bundleOf(record.id)))
      whileItLives(one, () => limitFileSize(one, this.logBytes))
    await this.#start(record, pid, confirm)
    return { pid, monitor }
  }

  /**
   * Takes away all that a launch made, except the record and what was written: process, runtime's
   * state, monitor, mount, bundle, cgroup. Idempotent.
   */
  async clean(container: { readonly id: string }): Promise<void> {
    const bundle = this.bundleOf(container.id)
    await this.driver.delete(container.id)
    await this.#endMonitor(bundle)
    await this.roots.unmount(container)
    await this.cgroups.remove(container.id)
    // Last: while it is there, `isUnclean`.
    await rm(bundle, { recursive: true, force: true })
  }

  /**
   * A service may die between the start of a process and the move of its monitor. With this the
   * next one moves all monitors that were left where that service was.
   */
  async adoptMonitors(): Promise<void> {
    for (const { pid, bundle } of await monitors())
      if (dirname(bundle) === this.bundles) await this.cgroups.adoptMonitor(pid)
  }

  /** Whether `clean` was not called, or not to its end. */
  isUnclean(id: string): boolean {
    return existsSync(this.bundleOf(id))
  }

  /**
   * Nothing comes between `confirm` and the runtime's process: it is spawned as soon as that has
   * answered, in the same turn of the event loop.
   */
  async #start(record: ContainerRecord, pid: number, confirm: () => Promise<void>): Promise<void> {
    if ((record.request.network ?? 'none') === 'none') whileItLives(pid, () => raiseLoopback(pid))
    await confirm()
    try {
      await this.driver.start(record.id)
    } catch (error) {
      // Another `start`, of a process of ours that died just now, may have been the first.
      const state = await this.driver.state(record.id)
      if (state?.status !== 'running' && state?.status !== 'stopped') throw error
    }
  }

  /**
   * After `delete` a monitor ends by itself. One that does not is ended: it would write into a
   * bundle that is not its own any more.
   */
  async #endMonitor(bundle: string): Promise<void> {
    const monitor = Monitor.adopt(bundle)
    if (!monitor) return
    const timer = setTimeout(() => void killMonitors(bundle), MONITOR_MS)
    await monitor.ended
    clearTimeout(timer)
  }
}

/** For callers whose starts are always their own. */
const noCheck = (): Promise<void> => Promise.resolve()

/**
 * Does something with a process of a launch.
 * @throws StrataError `launch_failed` if the process has ended: somebody killed it, or the kernel
 * did, which had no memory
 */
function whileItLives(pid: number, act: () => void): void {
  try {
    act()
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code !== 'ESRCH' && code !== 'ENOENT') throw error
    throw new StrataError('launch_failed', `process ${pid} of the container was killed before it was started`, {
      cause: error,
    })
  }
}

/** Ends the conmons of a bundle. */
export async function killMonitors(bundle: string): Promise<void> {
  for (const pid of await monitorsOf(bundle)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      continue // it has ended
    }
  }
}

async function monitorsOf(bundle: string): Promise<number[]> {
  return (await monitors()).flatMap((monitor) => (monitor.bundle === bundle ? [monitor.pid] : []))
}

/** All conmons, found in /proc: their pids may be another process's knowledge. */
async function monitors(): Promise<{ readonly pid: number; readonly bundle: string }[]> {
  const found: { pid: number; bundle: string }[] = []
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    try {
      const argv = (await readFile(`/proc/${pid}/cmdline`, 'latin1')).split('\0')
      const bundle = argv.includes('--bundle') ? argv[argv.indexOf('--bundle') + 1] : undefined
      if (bundle !== undefined && (await readlink(`/proc/${pid}/exe`)).endsWith('/conmon'))
        found.push({ pid: Number(pid), bundle })
    } catch {
      continue // it has ended
    }
  }
  return found
}
