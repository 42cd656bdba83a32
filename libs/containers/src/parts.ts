import { closeSync } from 'node:fs'
import { join } from 'node:path'
import { flock, openOwnFile, ownFolder } from '@strata/linux'
import { asStrataError, StrataError } from '@strata/base'
import type { ContainerRoots } from './container.js'
import { AutoRemove } from './lifecycle/auto-remove.js'
import type { Entry } from './lifecycle/entry.js'
import { Launcher } from './lifecycle/launcher.js'
import { Lifecycle } from './lifecycle/lifecycle.js'
import { Reconciler } from './lifecycle/reconciler.js'
import { RecordStore } from './lifecycle/record-store.js'
import { Registry } from './lifecycle/registry.js'
import { Remover } from './lifecycle/remover.js'
import { bundlesIn, noteServedAs } from './lifecycle/served-as.js'
import { LOG_LIMITS, type LogLimits } from './log/types.js'
import { Cgroups } from './runtime/cgroups.js'
import { findProgram } from './runtime/find-program.js'
import { dropPipeNames } from './runtime/pipe.js'
import { Runc } from './runtime/runc.js'
import type { RuntimeAbout, RuntimeDriver } from './runtime/runtime-driver.js'

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
 * What serves the containers of one node, and how the parts know of each other: the records, the
 * runtime and its monitors, and who starts, ends and removes containers.
 */
export class Parts {
  readonly registry: Registry
  readonly store: RecordStore
  readonly driver: RuntimeDriver
  readonly lifecycle: Lifecycle
  readonly remover: Remover
  readonly autoRemove: AutoRemove
  about: RuntimeAbout = { version: '', warnings: [] }
  readonly #cgroups: Cgroups
  readonly #launcher: Launcher
  readonly #bundles: string
  #closed = false

  private constructor(
    private readonly options: ContainersOptions,
    conmon: string,
    private readonly lock: number,
  ) {
    const logLimits = options.logLimits ?? LOG_LIMITS
    this.#bundles = bundlesIn(options.runFolder)
    this.store = new RecordStore(options.folder)
    this.registry = new Registry(this.store, logLimits, (message) => options.warn?.(message))
    this.#cgroups = new Cgroups(`strata-${options.node}`)
    this.driver = new Runc(options.runtime ?? findProgram('runc'), join(options.runFolder, 'runc'), options.runFolder)
    this.#launcher = new Launcher(
      this.driver,
      conmon,
      options.roots,
      this.#cgroups,
      this.#bundles,
      logLimits.unattendedBytes,
    )
    const collectMs = options.collectMs ?? COLLECT_MS
    this.remover = new Remover(this.store, this.registry, this.#launcher, options.roots, collectMs)
    this.autoRemove = new AutoRemove(collectMs, async (entry) => {
      await this.remover.remove(entry).catch((error: unknown) => this.#warn(entry, 'cannot remove yet', error))
    })
    this.lifecycle = new Lifecycle({
      launcher: this.#launcher,
      collectMs,
      folderOf: (id) => this.store.folderOf(id),
      save: (entry, record, how) => this.registry.save(entry, record, how),
      exited: (entry) => this.autoRemove.consider(entry),
      isClosed: () => this.#closed,
      warn: (entry, what, error) => this.#warn(entry, what, error),
    })
  }

  /** Laws: `Containers.open`. */
  static async open(options: ContainersOptions): Promise<Parts> {
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
      await noteServedAs(options.folder, options.node, options.runFolder)
      dropPipeNames(options.runFolder)
      const parts = new Parts(options, conmon, lock)
      await parts.#reconcile()
      parts.about = await parts.driver.about()
      return parts
    } catch (error) {
      closeSync(lock)
      throw error
    }
  }

  /** Laws: `Containers.close`. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.autoRemove.close()
    for (const entry of this.registry.entries()) {
      entry.log.stopKeeping()
      await entry.alone(() => Promise.resolve(entry.monitor?.release()))
    }
    this.#cgroups.tidy()
    closeSync(this.lock)
  }

  async #reconcile(): Promise<void> {
    const reconciler = new Reconciler({
      store: this.store,
      registry: this.registry,
      launcher: this.#launcher,
      lifecycle: this.lifecycle,
      driver: this.driver,
      cgroups: this.#cgroups,
      roots: this.options.roots,
      bundles: this.#bundles,
      warn: (message) => this.options.warn?.(message),
      warnOf: (entry, what, error) => this.#warn(entry, what, error),
    })
    await reconciler.run()
  }

  #warn(entry: Entry, what: string, error: unknown): void {
    this.options.warn?.(`${what} container ${entry.record.id.slice(0, 12)}: ${asStrataError(error).message}`)
  }
}
