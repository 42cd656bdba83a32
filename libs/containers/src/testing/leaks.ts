import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { mountTable } from '@strata/linux'

/**
 * What a node has left over outside its data folder: mounts, cgroups, processes, bundles, state of
 * the runtime. A line each; empty is clean.
 */
export function leaksOf(node: string, runFolder: string, folders: readonly string[]): string[] {
  const below = (path: string): boolean => [runFolder, ...folders].some((folder) => path.startsWith(`${folder}/`))
  const mounts = mountTable()
  return [
    ...mounts.filter((mount) => below(mount.mountPoint)).map((mount) => `mount ${mount.mountPoint}`),
    ...mounts
      .filter((mount) => mount.fsType.startsWith('cgroup'))
      .flatMap((mount) =>
        entries(join(mount.mountPoint, `strata-${node}`), true)
          .filter((name) => name !== 'monitors')
          .map((name) => `cgroup ${mount.mountPoint} ${name}`),
      ),
    ...entries(join(runFolder, 'bundles')).map((name) => `bundle ${name}`),
    ...entries(join(runFolder, 'runc')).map((name) => `runtime state ${name}`),
    ...entries(runFolder)
      .filter((name) => name.startsWith('.pipe'))
      .map((name) => `pipe ${name}`),
    ...entries('/proc')
      .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
      .flatMap((pid) => {
        const line = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ')
        return line.includes(runFolder) && !line.includes('vitest') ? [`process ${pid} ${line}`] : []
      }),
  ]
}

function entries(folder: string, foldersOnly = false): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => !foldersOnly || entry.isDirectory())
      .map((entry) => entry.name)
  } catch {
    return []
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
