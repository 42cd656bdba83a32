import { mkdirSync, realpathSync } from 'node:fs'
import { StrataError } from '@strata/base'
import {
  mount,
  mountFs,
  mountTable,
  MS_BIND,
  MS_NODEV,
  MS_NOSUID,
  MS_RDONLY,
  MS_REMOUNT,
  umount,
  umountApart,
  type MountEntry,
  type MountValue,
} from '@strata/linux'

/**
 * A mount as data. `type` is a file system of the kernel, or `bind`: then the folder `source` is
 * shown at the target. Options are the kernel's: flags (`ro`, `nosuid`, `nodev`, `volatile`) and
 * `name=value`, with nothing escaped in the value. Each lower folder of an overlay is one option
 * `lowerdir+=<path>`, the highest first.
 */
export interface Mount {
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
}

const FLAGS = new Map([
  ['ro', MS_RDONLY],
  ['nosuid', MS_NOSUID],
  ['nodev', MS_NODEV],
])
/** mount(2) reads one page of options. */
const PAGE = 4096

/**
 * Mounts these at the target, in order. Makes the folder if it is missing. If one fails, nothing
 * stays mounted.
 */
export function mountAll(mounts: readonly Mount[], target: string): void {
  mkdirSync(target, { recursive: true })
  let done = 0
  try {
    for (const one of mounts) {
      mountOne(one, target)
      done++
    }
  } catch (error) {
    while (done-- > 0) umount(target)
    throw error
  }
}

function mountOne({ type, source, options }: Mount, target: string): void {
  const flags = options.reduce((bits, option) => bits | (FLAGS.get(option) ?? 0), 0)
  if (type === 'bind') return bindOne(source, target, flags)
  const pairs = options.filter((option) => !FLAGS.has(option)).map((option) => pair(option))
  // mount(2) works on every kernel that has overlayfs. `lowerdir+` needs Linux 6.7, and is only
  // needed if the folders do not fit a page.
  const data = monolithic(pairs)
  if (Buffer.byteLength(data) < PAGE) mount(source, target, type, flags, data)
  else {
    const values = pairs.map(
      ([name, value]) =>
        [name, PATHS.has(name) && value !== undefined ? { path: value } : value] as [string, MountValue?],
    )
    mountFs({
      fstype: type,
      source,
      options: values,
      target,
      readOnly: (flags & MS_RDONLY) !== 0,
      nosuid: (flags & MS_NOSUID) !== 0,
      nodev: (flags & MS_NODEV) !== 0,
    })
  }
}

/**
 * A bind mount has the flags of the mount that it shows, until a remount sets others (mount(2),
 * MS_REMOUNT).
 */
function bindOne(source: string, target: string, flags: number): void {
  mount(source, target, '', MS_BIND)
  try {
    mount('', target, '', MS_BIND | MS_REMOUNT | flags)
  } catch (error) {
    umount(target)
    throw error
  }
}

const PATHS = new Set(['lowerdir+', 'upperdir', 'workdir'])

/** An option without a value is a flag of the file system. */
function pair(option: string): [string, string?] {
  const at = option.indexOf('=')
  return at < 0 ? [option] : [option.slice(0, at), option.slice(at + 1)]
}

/**
 * The options as one text. Backslashes and commas are escaped, and so are colons in the lower
 * folders' paths, which colons separate (Documentation/filesystems/overlayfs.rst).
 */
function monolithic(pairs: readonly [string, string?][]): string {
  const escape = (value: string): string => value.replace(/[\\,]/g, '\\$&')
  const lowers = pairs
    .filter(([name]) => name === 'lowerdir+')
    .map(([, value = '']) => escape(value).replaceAll(':', '\\:'))
  const rest = pairs
    .filter(([name]) => name !== 'lowerdir+')
    .map(([name, value]) => (value === undefined ? name : `${name}=${escape(value)}`))
  return [...(lowers.length > 0 ? [`lowerdir=${lowers.join(':')}`] : []), ...rest].join(',')
}

/**
 * Unmounts everything that is mounted exactly at the target; does nothing if nothing is. When this
 * resolves, what was written is on disk, except after a `volatile` mount. If two calls unmount one
 * target, the second may find nothing and return before the first has written everything.
 * @throws StrataError `in_use` while a process works in it
 */
export async function unmountAll(target: string): Promise<void> {
  let path: string
  try {
    path = realpathSync(target)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  for (const entry of mountTable()) {
    if (entry.mountPoint !== path) continue
    try {
      if (isSyncedAtItsEnd(entry)) await umountApart(path)
      else umount(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error
      throw new StrataError('in_use', `${path} is in use: end the processes that work in it, then try again`, {
        cause: error,
      })
    }
  }
}

/**
 * Whether the unmount writes to disk: that of an overlay with an upper folder syncs the whole file
 * system of that folder (ovl_sync_fs() in fs/overlayfs/super.c). Later kernels show `volatile` as
 * `fsync=volatile`.
 */
function isSyncedAtItsEnd({ superOptions }: MountEntry): boolean {
  return (
    superOptions.some((option) => option.startsWith('upperdir=')) &&
    !superOptions.some((option) => option === 'volatile' || option === 'fsync=volatile')
  )
}
