import { closeSync, constants, mkdirSync, openSync, readdirSync, rmSync, unlinkSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { mkfifo } from '@strata/linux'

const PREFIX = '.pipe-'
let made = 0

/**
 * A pipe, as Node has none: a FIFO that loses its name at once. The reading end does not block.
 * Both close on exec; the caller closes `write`.
 */
export function makePipe(folder: string): { read: number; write: number } {
  mkdirSync(folder, { recursive: true })
  const path = join(folder, `${PREFIX}${process.pid}-${made++}`)
  mkfifo(path, 0o600)
  try {
    const read = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      return { read, write: openSync(path, constants.O_WRONLY) }
    } catch (error) {
      closeSync(read)
      throw error
    }
  } finally {
    unlinkSync(path)
  }
}

/**
 * The names that a process killed in the middle of `makePipe` left. Only where no other lives that
 * makes pipes there.
 */
export function dropPipeNames(folder: string): void {
  for (const name of readdirSync(folder))
    if (name.startsWith(PREFIX)) rmSync(join(folder, name), { recursive: true, force: true })
}

/** A pipe's reading end in the event loop (no thread waits in read(2)). It owns the descriptor. */
export function readPipe(fd: number): Socket {
  return new Socket({ fd, readable: true, writable: false })
}
