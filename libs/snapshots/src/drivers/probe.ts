import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { ENTRY, TarEntry } from '@strata/archive'
import { StrataError } from '@strata/base'
import { IndexBuilder } from '@strata/layers'
import { MNT_DETACH, mountTable, umount } from '@strata/linux'
import { digestOf, type DiffId } from '@strata/oci'
import { mountAll, unmountAll } from '../mounts/mounts.js'
import { parseSnapshotKey } from '../snapshot.js'
import type { LayerFiles, Snapshotter } from '../snapshotter.js'
import { VARIANTS, type Variant } from './drivers.js'
import { openSnapshotter } from './open-snapshotter.js'

/** Whether one variant of a driver works in a folder, and why. */
export type ProbeResult = Variant & {
  readonly ok: boolean
  /** One clause: what worked, or what prevented it. */
  readonly reason: string
}

/**
 * Tests the variants of all drivers in this folder, the best first, by doing what a driver does.
 * Stops after the first one that works and for which `suffices` is true: the others would not be
 * chosen. The kernel's features do not show what works, because much depends on the file system of
 * the folder. Leaves nothing behind, and deletes what a killed probe left. If that cannot be
 * deleted, `warn` gets a sentence.
 */
export async function probe(
  folder: string,
  suffices: (variant: Variant) => boolean,
  warn: (message: string) => void = () => undefined,
): Promise<ProbeResult[]> {
  // A failure here would keep the node from every driver.
  try {
    clearProbes(folder)
  } catch (error) {
    warn(`deleting what an earlier test of the storage drivers left: ${messageOf(error)}`)
  }
  const results: ProbeResult[] = []
  for (const variant of VARIANTS) {
    const result = await probeVariant(folder, variant, warn)
    results.push(result)
    if (result.ok && suffices(variant)) break
  }
  return results
}

async function probeVariant(folder: string, variant: Variant, warn: (message: string) => void): Promise<ProbeResult> {
  if (process.getuid?.() !== 0) return { ...variant, ok: false, reason: 'mounting needs root' }
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const place = mkdtempSync(join(folder, PREFIX))
  const result = await tryIn(place, variant)
  // The test itself has removed what a container needs. Another driver could not start the
  // containers that are here.
  try {
    rmSync(place, { recursive: true, force: true })
  } catch (error) {
    warn(`deleting what a test of ${variant.title} left (the next start tries again): ${messageOf(error)}`)
  }
  return result
}

async function tryIn(place: string, variant: Variant): Promise<ProbeResult> {
  try {
    const snapshotter = await openSnapshotter(join(place, 'driver'), variant)
    try {
      await tryWhole(snapshotter, place)
    } finally {
      await snapshotter.releaseRoots()
      await snapshotter.close()
    }
    return { ...variant, ok: true, reason: 'an image was assembled, mounted, read and written here' }
  } catch (error) {
    return { ...variant, ok: false, reason: reasonOf(error) }
  }
}

/** Deletes what unfinished probes left: mounts first, the last one of them first. */
export function clearProbes(folder: string): void {
  if (!existsSync(folder)) return
  const left = readdirSync(folder)
    .filter((name) => name.startsWith(PREFIX))
    .map((name) => join(realpathSync(folder), name))
  for (const { mountPoint } of mountTable().reverse())
    if (left.some((place) => mountPoint.startsWith(`${place}/`))) umount(mountPoint, MNT_DETACH)
  for (const place of left) rmSync(place, { recursive: true, force: true })
}

const PREFIX = 'probe-'
const CONTENT = Buffer.from('strata')

/**
 * Makes a root of one layer and a writable child of it. A file is read from the root and changed in
 * the child.
 */
async function tryWhole(snapshotter: Snapshotter, place: string): Promise<void> {
  const chainId = await snapshotter.assemble([makeLayer(place)])
  const target = join(place, 'target')
  const key = parseSnapshotKey('probe')
  const mounts = await snapshotter.prepare(key, chainId, { isVolatile: true })
  try {
    mountAll(mounts, target)
    if (!readFileSync(join(target, 'file')).equals(CONTENT)) throw new Error('a file of the image reads differently')
    writeFileSync(join(target, 'file'), 'changed')
    if (!readFileSync(join(await snapshotter.root(chainId), 'file')).equals(CONTENT))
      throw new Error('a change in a container shows in its image')
  } finally {
    await takeOff(target)
    await snapshotter.remove(key)
  }
}

/** Somebody who looks into it (a scanner, a shell) says nothing about the driver. */
async function takeOff(target: string): Promise<void> {
  try {
    await unmountAll(target)
  } catch (error) {
    if (!(error instanceof StrataError && error.code === 'in_use')) throw error
    const path = realpathSync(target)
    for (const { mountPoint } of mountTable()) if (mountPoint === path) umount(path, MNT_DETACH)
  }
}

/**
 * A layer of one file, indexed as a tar reader would report it. The drivers read nothing of a tar
 * but the files' data.
 */
function makeLayer(place: string): LayerFiles {
  const bytes = Buffer.alloc(2048)
  bytes.set(CONTENT, 512)
  const builder = new IndexBuilder()
  builder.entry(
    Object.assign(new TarEntry(), {
      path: Buffer.from('file'),
      type: ENTRY.file,
      mode: 0o644,
      size: CONTENT.length,
      storedSize: CONTENT.length,
      dataOffset: 512,
    }),
  )
  builder.entryEnd()
  const [tar, index] = [join(place, 'tar'), join(place, 'index')]
  writeFileSync(tar, bytes)
  writeFileSync(index, builder.finish(bytes.length).encode())
  return { diffId: digestOf(bytes) as DiffId, tar, index }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  switch (code) {
    case 'ENODEV':
      return `this kernel does not have the file system (${message})`
    case 'ENOTBLK':
      return `this kernel, or the file system the folder lies on, cannot mount EROFS from a file (${message})`
    case 'EPERM':
    case 'EACCES':
      return `mounting is not allowed here (${message})`
    default:
      return message
  }
}
