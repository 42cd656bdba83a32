import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { mountTable } from '@strata/linux'
import type { Layout } from '../bookkeeping/layout.js'

const PATIENCE_MS = 30_000

/**
 * The mounts, loop devices and files in or of a driver's folder: all of it must be gone when
 * everything was removed. A loop device keeps its file for a moment after its last mount has gone:
 * it is waited for.
 */
export async function leftoversOf(layout: Layout): Promise<string[]> {
  const until = performance.now() + PATIENCE_MS
  while (loopsIn(layout.path).length > 0 && performance.now() < until) await setTimeout(20)
  const mounts = mountTable()
    .filter(({ mountPoint }) => mountPoint.startsWith(`${layout.path}/`))
    .map(({ mountPoint }) => `mount ${mountPoint}`)
  const loops = loopsIn(layout.path).map((name) => `loop device ${name}`)
  const files = readdirSync(layout.path, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => `${entry.parentPath}/${entry.name}`)
  return [...mounts, ...loops, ...files, ...layout.contents()]
}

function loopsIn(folder: string): string[] {
  return readdirSync('/sys/block').filter((name) => backingFile(name)?.startsWith(`${folder}/`))
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
