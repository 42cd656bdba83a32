import { randomBytes, randomUUID } from 'node:crypto'
import {
  closeSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'

/**
 * Who a node's process is: the node's name, its folder and the machine's boot, and a name of the
 * machine for people.
 */
export interface NodeIdentity {
  /** STRATA_NODE. */
  readonly id: string
  /**
   * The id of the node's folder. Extractor and runtime of one node have the same; so has a
   * restarted process.
   */
  readonly instance: string
  /** The machine's boot. It tells a copy of the folder on another machine from the original. */
  readonly boot: string
  readonly host: string
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/**
 * Reads who this process is. The folder's id lies in `<folder>/identity`; it is made at the first
 * start, once, by whichever of the node's processes comes first.
 */
export function nodeIdentity(id: string, folder: string, boot: string): NodeIdentity {
  return { id, instance: instanceOf(folder), boot, host: hostname() }
}

function instanceOf(folder: string): string {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const path = join(folder, 'identity')
  // A folder or a link there is none of ours, and would keep the file from its name.
  if (lstatSync(path, { throwIfNoEntry: false })?.isFile() === false)
    renameSync(path, `${path}.unreadable-${Date.now()}-${randomBytes(4).toString('hex')}`)
  const found = read(path)
  if (found !== undefined && UUID.test(found)) return found
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`
  const file = openSync(temporary, 'wx', 0o600)
  writeSync(file, `${randomUUID()}\n`)
  fsyncSync(file)
  closeSync(file)
  try {
    // What is there and is no id tells nothing, so it may be replaced. What is not there is made
    // once: by link.
    if (found === undefined) linkSync(temporary, path)
    else renameSync(temporary, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    rmSync(temporary, { force: true })
  }
  return read(path) ?? ''
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
