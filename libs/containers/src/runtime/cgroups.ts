import { readdirSync, readFileSync, rmdirSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { mountTable, type MountEntry } from '@strata/linux'

const MONITORS = 'monitors'
const codeOf = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : undefined)

/**
 * This node's cgroups, `/strata-<node>` in each hierarchy (v1, v2 or both): a leaf a container,
 * which the runtime makes, and one for the monitors.
 */
export class Cgroups {
  readonly #mounts: readonly MountEntry[]
  readonly #hierarchies: readonly string[]

  /** @param name `strata-<node>` */
  constructor(private readonly name: string) {
    this.#mounts = mountTable().filter((mount) => mount.fsType === 'cgroup' || mount.fsType === 'cgroup2')
    this.#hierarchies = [...new Set(this.#mounts.map((mount) => mount.mountPoint))]
  }

  /** For the spec's `cgroupsPath`. */
  pathOf(id: string): string {
    return `/${this.name}/${id}`
  }

  /**
   * Moves a monitor out of the groups that it has from the service which started it, in each
   * hierarchy. Somebody made them for that service: a service manager, or an engine that has the
   * service in a container. It may limit such a group, freeze it, and kill all that is in it:
   * docker takes the group in `devices` for the list of a container's processes. So this lets
   * conmon outlive the service. Does nothing for a monitor that was moved.
   *
   * Never in the way of a launch: the kernel takes 5 ms and more to move a process (it waits for an
   * RCU grace period with all forks held up). What cannot be done is left: it only matters to a
   * manager that kills by group.
   */
  async adoptMonitor(pid: number): Promise<void> {
    const groups = await groupsOf(pid)
    // A mount may show a hierarchy from below its root, as in an engine's container: a process's
    // path begins at the root all the same.
    const own = new Set(this.#mounts.map(({ root }) => `${root === '/' ? '' : root}/${this.name}/${MONITORS}`))
    const hierarchies = this.#mounts.filter((mount) => {
      const path = groupIn(mount, groups)
      return path !== undefined && path !== '/' && !own.has(path)
    })
    for (const [mountPoint, { fsType }] of new Map(hierarchies.map((mount) => [mount.mountPoint, mount])))
      await moveMonitor(pid, join(mountPoint, this.name), fsType === 'cgroup').catch(() => undefined)
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

/** A process's group in one hierarchy. v2 has no list of controllers here. */
interface Group {
  readonly controllers: readonly string[]
  readonly path: string
}

/** One of each hierarchy; none of a process that has ended. */
async function groupsOf(pid: number): Promise<Group[]> {
  const text = await readFile(`/proc/${pid}/cgroup`, 'latin1').catch(() => '')
  return text.split('\n').flatMap((line) => {
    const [, controllers, path] = /^\d+:([^:]*):(.+)$/.exec(line) ?? []
    return controllers === undefined || path === undefined
      ? []
      : [{ controllers: controllers === '' ? [] : controllers.split(','), path }]
  })
}

/** The path of the group that is in the hierarchy which is mounted there. */
function groupIn(mount: MountEntry, groups: readonly Group[]): string | undefined {
  return groups.find(({ controllers }) =>
    mount.fsType === 'cgroup2'
      ? controllers.length === 0
      : controllers.length > 0 && controllers.every((name) => mount.superOptions.includes(name)),
  )?.path
}

async function moveMonitor(pid: number, node: string, isV1: boolean): Promise<void> {
  const folder = join(node, MONITORS)
  await mkdir(folder, { recursive: true })
  if (isV1) for (const group of [node, folder]) await fillCpuset(group)
  await writeFile(join(folder, 'cgroup.procs'), String(pid))
}

/**
 * A new group of v1's `cpuset` has neither processors nor memory, and takes no process until it
 * has: it gets what the group above it has. Nothing in other hierarchies. Not for v2, where an
 * empty one uses what the group above it has, and the root group has no such files.
 */
async function fillCpuset(folder: string): Promise<void> {
  for (const name of ['cpuset.cpus', 'cpuset.mems']) {
    const own = await readFile(join(folder, name), 'latin1').catch(() => undefined)
    if (own?.trim() === '') await writeFile(join(folder, name), await readFile(join(dirname(folder), name)))
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
