import { randomUUID } from 'node:crypto'
import { closeSync, constants, lstatSync, mkdirSync, openSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { flock, ownFolder } from '@strata/linux'
import { isErrno } from './object-file.js'

const O_FOLDER = constants.O_RDONLY | constants.O_DIRECTORY

/**
 * A folder of this process for files that are not objects yet, or no longer. Its process holds a
 * flock on it as long as it lives. So the next process that opens the store recognises folders
 * without an owner and deletes them. (A pid would not do: several pid namespaces may share a
 * store.)
 *
 * A disk may be so full that it has no room for a folder. The store must open there all the same,
 * so that a collection can make room: until there is some, the files lie beside the folders. The
 * next process that opens the store deletes them. So a write that is under way then fails, and a
 * file that is on its way out is gone.
 */
export class Scratch {
  #next = 0
  readonly #id = randomUUID()
  private constructor(
    private readonly parent: string,
    private own: OwnFolder | undefined,
  ) {}

  static async open(parent: string): Promise<Scratch> {
    ownFolder(parent)
    // Held while a folder is made and locked: without its lock, a new folder looks like that of a
    // dead process.
    const gate = openSync(parent, O_FOLDER)
    try {
      while (!flock(gate, 'ex', { nonblock: true })) await delay(5)
      for (const name of readdirSync(parent)) removeIfDead(join(parent, name))
      return new Scratch(parent, makeOwn(parent))
    } finally {
      closeSync(gate)
    }
  }

  /** A path that was never used. */
  path(): string {
    this.own ??= this.#makeLate()
    const name = String(this.#next++)
    return this.own ? join(this.own.folder, name) : join(this.parent, `${this.#id}.${name}`)
  }

  close(): void {
    if (!this.own) return
    rmSync(this.own.folder, { recursive: true, force: true })
    closeSync(this.own.fd)
  }

  #makeLate(): OwnFolder | undefined {
    const gate = openSync(this.parent, O_FOLDER)
    try {
      return flock(gate, 'ex', { nonblock: true }) ? makeOwn(this.parent) : undefined
    } finally {
      closeSync(gate)
    }
  }
}

/** `fd` holds the lock. */
interface OwnFolder {
  readonly folder: string
  readonly fd: number
}

/** Under the gate's lock. `undefined`: the disk has no room for a folder. */
function makeOwn(parent: string): OwnFolder | undefined {
  const folder = join(parent, randomUUID())
  try {
    mkdirSync(folder, { mode: 0o700 })
  } catch (error) {
    if (isErrno(error, 'ENOSPC')) return undefined
    throw error
  }
  const fd = openSync(folder, O_FOLDER)
  flock(fd, 'ex', { nonblock: true })
  return { folder, fd }
}

function removeIfDead(folder: string): void {
  // Strata makes only folders here. An owner deletes its own folder without the gate, so the folder
  // may disappear at any line of this.
  const found = lstatSync(folder, { throwIfNoEntry: false })
  if (found?.isDirectory() === false) rmSync(folder, { force: true })
  const fd = found?.isDirectory() ? openIfThere(folder) : undefined
  if (fd === undefined) return
  try {
    if (flock(fd, 'ex', { nonblock: true })) rmSync(folder, { recursive: true, force: true })
  } finally {
    closeSync(fd)
  }
}

function openIfThere(folder: string): number | undefined {
  try {
    return openSync(folder, O_FOLDER)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}
