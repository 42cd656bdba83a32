import { readFileSync, realpathSync } from 'node:fs'
import { mount, MS_BIND, MS_PRIVATE } from './mount.js'
import { ownFolder } from '../files/own-files.js'

/** A line of mountinfo (proc_pid_mountinfo(5)). */
export interface MountEntry {
  readonly id: number
  readonly parent: number
  /** `major:minor` of the file system, as in stat's st_dev. */
  readonly dev: string
  /** What of the file system is mounted: `/` unless it is a bind mount of a folder of it. */
  readonly root: string
  readonly mountPoint: string
  /** Of the mount: `ro`, `nosuid`, … */
  readonly options: readonly string[]
  /** `shared:1`, `master:2`, `unbindable`; none of them = private. */
  readonly propagation: readonly string[]
  readonly fsType: string
  readonly source: string
  /** Of the file system: `lowerdir=…`, `upperdir=…`, … */
  readonly superOptions: readonly string[]
}

/**
 * The mounts that a process sees (default: we), oldest first; of several on one point the last is
 * the visible one.
 */
export function mountTable(pid: number | 'self' = 'self'): MountEntry[] {
  return parseMountInfo(readFileSync(`/proc/${pid}/mountinfo`, 'utf8'))
}

export function parseMountInfo(text: string): MountEntry[] {
  return text.split('\n').flatMap((line) => {
    if (line === '') return []
    const separator = line.indexOf(' - ')
    const [id, parent, dev = '', root = '', mountPoint = '', options = '', ...propagation] = line
      .slice(0, separator)
      .split(' ')
    const [fsType = '', source = '', superOptions = ''] = line.slice(separator + 3).split(' ')
    return [
      {
        id: Number(id),
        parent: Number(parent),
        dev,
        root: unescape(root),
        mountPoint: unescape(mountPoint),
        options: options.split(','),
        propagation,
        fsType,
        source: unescape(source),
        superOptions: splitOptions(superOptions),
      },
    ]
  })
}

/** The kernel writes space, tab, newline and backslash as three octal digits. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)))
}

/** A comma inside a value is shown as an octal escape too, so splitting comes first. */
function splitOptions(text: string): string[] {
  return text.split(',').map((option) => unescape(option))
}

/** The visible mount exactly at this path (no symbolic links in it), if there is one. */
export function mountAt(path: string, table: readonly MountEntry[] = mountTable()): MountEntry | undefined {
  return table.findLast((entry) => entry.mountPoint === path)
}

/**
 * Makes the folder (0700 if new) a mount point of its own from which nothing propagates: mounts
 * made below it stay out of every other mount namespace, so that they can be unmounted for good.
 * Idempotent. Gives the folder's real path, which the mount table speaks of.
 *
 * End it with MNT_DETACH: a loop device whose file lies here keeps that file open for some time
 * after its own last mount has gone, and until then a plain umount fails with EBUSY.
 */
export function makePrivateMount(folder: string): string {
  ownFolder(folder)
  const path = realpathSync(folder)
  const existing = mountAt(path)
  if (!existing) mount(path, path, '', MS_BIND)
  if (!existing || existing.propagation.length > 0) mount('', path, '', MS_PRIVATE)
  return path
}
