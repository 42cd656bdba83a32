import { readdirSync, readFileSync } from 'node:fs'
import { mountTable } from '@strata/linux'

/**
 * What there is of mounts, loop devices and files in or of a folder: all of it must be gone when a
 * driver was told to remove everything.
 */
export function leftoversOf(folder: string): string[] {
  const mounts = mountTable()
    .filter(({ mountPoint }) => mountPoint.startsWith(`${folder}/`))
    .map(({ mountPoint }) => `mount ${mountPoint}`)
  const loops = readdirSync('/sys/block')
    .filter((name) => backingFile(name)?.startsWith(`${folder}/`))
    .map((name) => `loop device ${name}`)
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => `${entry.parentPath}/${entry.name}`)
  const kept = ['roots', 'layers', 'mounts', 'snapshots', 'locks', 'tmp']
  const folders = kept.flatMap((name) => readdirSync(`${folder}/${name}`).map((inside) => `${name}/${inside}`))
  return [...mounts, ...loops, ...files, ...folders]
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
