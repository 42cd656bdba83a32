import { readdirSync, readFileSync, rmdirSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { mountTable } from '@strata/linux'

const MONITORS = 'monitors'
const codeOf = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : undefined)

/**
 * This node's cgroups, `/strata-<node>` in each hierarchy (v1, v2 or both): a leaf a container,
 * which the runtime makes, and one for the monitors.
 */
export class Cgroups {
  readonly #hierarchies: readonly string[]
  /**
   * Where a service manager counts processes, and we are in a group of its making: leaving it there
   * is what lets conmon outlive the service.
   */
  readonly #managed: readonly string[]

  /** @param name `strata-<node>` */
  constructor(private readonly name: string) {
    const mounts = mountTable().filter((mount) => mount.fsType === 'cgroup' || mount.fsType === 'cgroup2')
    this.#hierarchies = [...new Set(mounts.map((mount) => mount.mountPoint))]
    const ours = readFileSync('/proc/self/cgroup', 'latin1').split('\n')
    this.#managed = mounts
      .filter((mount) =>
        mount.fsType === 'cgroup2'
          ? ours.some((line) => /^0::\/./.test(line))
          : mount.superOptions.includes('name=systemd') && ours.some((line) => /^\d+:name=systemd:\/./.test(line)),
      )
      .map((mount) => mount.mountPoint)
  }

  /** For the spec's `cgroupsPath`. */
  pathOf(id: string): string {
    return `/${this.name}/${id}`
  }

  /**
   * Moves a monitor out of the service's own group. Never in the way of a launch: the kernel takes
   * 5 ms and more to move a process (it waits for an RCU grace period with all forks held up). What
   * cannot be done is left: it only matters to a manager that kills by group.
   */
  async adoptMonitor(pid: number): Promise<void> {
    for (const hierarchy of this.#managed) {
      const folder = join(hierarchy, this.name, MONITORS)
      await mkdir(folder, { recursive: true })
        .then(() => writeFile(join(folder, 'cgroup.procs'), String(pid)))
        .catch(() => undefined)
    }
  }

  /** Ids that have a cgroup somewhere. */
  list(): string[] {
    const names = this.#hierarchies.flatMap((hierarchy) => {
      try {
        return readdirSync(join(hierarchy, this.name), { withFileTypes: true })
          .filter((entry) => entry.isDirectory())
          .map((entry) => entry.name)
      } catch {
        return []
      }
    })
    return [...new Set(names)].filter((name) => name !== MONITORS)
  }

  /**
   * Makes sure that a container's cgroups are gone. The runtime removes them; where it died in
   * between, or a process was slow to go, we do.
   */
  async remove(id: string): Promise<void> {
    for (const hierarchy of this.#hierarchies) {
      const folder = join(hierarchy, this.name, id)
      for (let tries = 0; !removeTree(folder); tries++) {
        if (tries === 100) throw new Error(`cgroup ${folder} cannot be removed: processes in it do not end`)
        killAll(folder)
        await delay(10)
      }
    }
  }

  /** The node's own folders, where nothing is in them. */
  tidy(): void {
    for (const hierarchy of this.#hierarchies) {
      for (const folder of [join(hierarchy, this.name, MONITORS), join(hierarchy, this.name)]) removeTree(folder, false)
    }
  }
}

/** True if it is gone. A container may have made groups of its own below (v2 with delegation). */
function removeTree(folder: string, recursive = true): boolean {
  try {
    rmdirSync(folder)
    return true
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return true
    if (codeOf(error) !== 'EBUSY' && codeOf(error) !== 'ENOTEMPTY') throw error
  }
  if (!recursive) return false
  const below = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  if (below.length === 0 || !below.every((entry) => removeTree(join(folder, entry.name)))) return false
  return removeTree(folder, false)
}

function killAll(folder: string): void {
  let pids: string
  try {
    pids = readFileSync(join(folder, 'cgroup.procs'), 'utf8')
  } catch {
    return
  }
  for (const pid of pids
    .split('\n')
    .map(Number)
    .filter((pid) => pid > 0)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      continue // it has gone by itself
    }
  }
}
