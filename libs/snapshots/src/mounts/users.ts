import { join, relative } from 'node:path'
import type { MountEntry } from '@strata/linux'

/** A mount that uses this one: an overlay above it, or another mount of what it shows. */
export function userOfMount(mounted: MountEntry, table: readonly MountEntry[]): MountEntry | undefined {
  return table.find(
    (entry) =>
      entry.id !== mounted.id &&
      ((entry.dev === mounted.dev && isWithin(entry.root, mounted.root)) ||
        lowerFolders(entry).includes(mounted.mountPoint)),
  )
}

/**
 * A mount that shows the folder or something in it: a bind mount, or an overlay that has it as its
 * upper folder or as one of its lower ones.
 */
export function userOfFolder(folder: string, table: readonly MountEntry[]): MountEntry | undefined {
  const home = table
    .filter(({ mountPoint }) => isWithin(folder, mountPoint))
    .reduce<MountEntry | undefined>(
      // If several are mounted at one point, the last one is visible.
      (best, entry) => (best && best.mountPoint.length > entry.mountPoint.length ? best : entry),
      undefined,
    )
  const place = home && join(home.root, relative(home.mountPoint, folder))
  return table.find(
    (entry) =>
      overlayFolders(entry).some((path) => isWithin(path, folder)) ||
      (place !== undefined && entry.dev === home?.dev && isWithin(entry.root, place)),
  )
}

function isWithin(path: string, folder: string): boolean {
  return path === folder || folder === '/' || path.startsWith(`${folder}/`)
}

function overlayFolders(entry: MountEntry): string[] {
  const own = entry.superOptions.filter((option) => option.startsWith('upperdir='))
  return [...lowerFolders(entry), ...own.map((option) => option.slice('upperdir='.length))]
}

/**
 * The lower folders' paths of an overlay mount. The kernel shows them as one escaped text after
 * mount(2), and one by one after fsconfig(2).
 */
export function lowerFolders(entry: MountEntry): string[] {
  if (entry.fsType !== 'overlay') return []
  return entry.superOptions.flatMap((option) => {
    const at = option.indexOf('=')
    const [name, value] = [option.slice(0, at), option.slice(at + 1)]
    if (name === 'lowerdir+') return [value]
    return name === 'lowerdir' ? value.split(/(?<!\\):/).map((path) => path.replace(/\\(.)/g, '$1')) : []
  })
}
