import { closeSync, createReadStream, fstatSync, openSync, readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import type { Descriptor } from '@strata/api'
import { CliError, reasonOf } from './errors.js'
import { isLayoutFolder, layoutBytes } from './layout-folder.js'

/** What `strata load` or `strata import` was given. */
export interface Archive {
  /** Of a file; what comes through a pipe has none. */
  readonly length: number | undefined
  /**
   * Of a file from its beginning: how a service on this machine can read it by itself. As it is at
   * this moment.
   */
  descriptor(): Descriptor | undefined
  /** The bytes, to be asked for once. */
  bytes(): Readable
  close(): void
}

export function openArchive(path: string | undefined, verb: 'load' | 'import'): Archive {
  if (path === undefined || path === '-') {
    if (process.stdin.isTTY)
      throw new CliError(`${verb} reads from stdin or a file, and stdin is a terminal: strata ${verb} FILE`)
    return stdinArchive()
  }
  try {
    const fd = openSync(path, 'r')
    if (fstatSync(fd).isDirectory()) {
      closeSync(fd)
      if (verb === 'load' && isLayoutFolder(path)) return folderArchive(path)
      throw new CliError(
        `${path} is a folder${verb === 'load' ? ', and no OCI image layout' : ''}: ${verb} takes a tar; a root file system comes in by tar -C ${path} -c . | strata import -`,
      )
    }
    return fileArchive(fd)
  } catch (error) {
    if (error instanceof CliError) throw error
    throw new CliError(`open ${path}: ${reasonOf(error)}`, { cause: error })
  }
}

function folderArchive(path: string): Archive {
  return { length: undefined, descriptor: () => undefined, bytes: () => layoutBytes(path), close: () => undefined }
}

function fileArchive(fd: number): Archive {
  const status = fstatSync(fd)
  let isStreams = false
  return {
    length: status.isFile() ? status.size : undefined,
    descriptor: () => (status.isFile() ? describe(fd) : undefined),
    bytes: () => {
      isStreams = true
      return createReadStream('', { fd, highWaterMark: 1024 * 1024 })
    },
    close: () => {
      if (!isStreams) closeSync(fd)
    },
  }
}

/**
 * What a shell opened for us may be anywhere: in a file (`<`) that somebody has read a part of, in
 * none. Its length is not said, for a pipe or a part has none.
 */
function stdinArchive(): Archive {
  return {
    length: undefined,
    descriptor: () => (fstatSync(0).isFile() && positionOf(0) === 0 ? describe(0) : undefined),
    bytes: () => process.stdin,
    close: () => undefined,
  }
}

function describe(fd: number): Descriptor {
  const { dev, ino, size, mtimeNs } = fstatSync(fd, { bigint: true })
  return { fd, dev: String(dev), ino: String(ino), size: String(size), mtimeNs: String(mtimeNs) }
}

function positionOf(fd: number): number {
  return Number(/^pos:\s*([0-9]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1])
}
