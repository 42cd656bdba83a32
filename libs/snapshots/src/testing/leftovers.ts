import { readdirSync, readFileSync } from 'node:fs'
import { mountTable } from '@strata/linux'
import type { Layout } from '../bookkeeping/layout.js'

/**
 * The mounts, loop devices and files in or of a driver's folder: all of it must be gone when
 * everything was removed.
 */
export function leftoversOf(layout: Layout): string[] {
  const folder = layout.path
  const mounts = mountTable()
    .filter(({ mountPoint }) => mountPoint.startsWith(`${folder}/`))
    .map(({ mountPoint }) => `mount ${mountPoint}`)
  const loops = readdirSync('/sys/block')
    .filter((name) => backingFile(name)?.startsWith(`${folder}/`))
    .map((name) => `loop device ${name}`)
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => `${entry.parentPath}/${entry.name}`)
  return [...mounts, ...loops, ...files, ...layout.contents()]
}

function backingFile(name: string): string | undefined {
  try {
    return readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ENXIO')
      return undefined
    throw error
  }
}
