import { closeSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { warm } from './archive.mjs'
import { Peaks } from './peaks.mjs'
import { run } from './processes.mjs'

/**
 * A side: `name`, `version`, perhaps a `note`; `isPeer` where ratios may be to it, `isOurs` for
 * Strata.
 *   load(file, peaks)   the archive in; `peaks` hears of each process that does it, `watch(peaks)` names the daemon's
 *   mount(image)        the folder of the image's root, read-only where the side mounts roots at all
 *   clear(image)        unmounted, and nothing of the image left; an error if something is
 *
 * A round begins with nothing of the image there and the file in the page cache. In seconds:
 * `loaded`, `mounted` (and a file of each layer read), `synced` (all of it forced to the disk),
 * each from the start.
 */
export async function oneRound(side, file, archive, folder) {
  warm(file)
  touchMemory(folder, statSync(file).size)
  await run('sync', ['-f', folder])
  const peaks = new Peaks()
  try {
    side.watch(peaks)
    const before = performance.now()
    await side.load(file, peaks)
    const loaded = seconds(before)
    const root = await side.mount(archive.image)
    for (const probe of archive.probes) readFileSync(join(root, probe))
    const mounted = seconds(before)
    await run('sync', ['-f', folder])
    const synced = seconds(before)
    const result = { loaded, mounted, synced, peaks: peaks.end() }
    await side.clear(archive.image)
    return result
  } finally {
    peaks.end()
  }
}

/**
 * A virtual machine may have given free memory back to its host, and the first to use it again
 * waits several times as long as the copy itself. So that falls on nobody's round.
 */
export function touchMemory(folder, size) {
  const path = join(folder, 'touched')
  const file = openSync(path, 'w')
  const piece = Buffer.alloc(8 * 1024 * 1024, 1)
  for (let written = 0; written < 1.5 * size;) written += writeSync(file, piece)
  closeSync(file)
  rmSync(path)
}

export function seconds(since) {
  return (performance.now() - since) / 1000
}
