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
 */
export class Scratch {
  #next = 0
  private constructor(
    readonly folder: string,
    private readonly fd: number,
  ) {}

  static async open(parent: string): Promise<Scratch> {
    ownFolder(parent)
    // Held while a folder is made and locked: without its lock, a new folder looks like that of a
    // dead process.
    const gate = openSync(parent, O_FOLDER)
    try {
      while (!flock(gate, 'ex', { nonblock: true })) await delay(5)
      for (const name of readdirSync(parent)) removeIfDead(join(parent, name))
      const folder = join(parent, randomUUID())
      mkdirSync(folder, { mode: 0o700 })
      const fd = openSync(folder, O_FOLDER)
      flock(fd, 'ex', { nonblock: true })
      return new Scratch(folder, fd)
    } finally {
      closeSync(gate)
    }
  }

  /** A path that was never used. */
  path(): string {
    return join(this.folder, String(this.#next++))
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true })
    closeSync(this.fd)
  }
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
