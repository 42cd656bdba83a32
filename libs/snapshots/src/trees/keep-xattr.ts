import { statfsSync } from 'node:fs'
import { dirname } from 'node:path'
import { StrataError } from '@strata/base'
import { lsetxattr } from '@strata/linux'

/** Errors by which a file system says that it does not keep this attribute (setxattr(2)). */
const REFUSALS = new Set(['ENOSPC', 'E2BIG', 'ERANGE', 'ENOTSUP', 'EOPNOTSUPP', 'EINVAL', 'EPERM', 'EACCES'])
/**
 * If at least so many bytes are free, ENOSPC means that the inode has no room, not that the disk is
 * full.
 */
const ROOM = 1024 * 1024

/**
 * Sets an extended attribute that an image brings.
 * @param at where the file is
 * @param shown the path of the file in the image, or its name, for the message
 * @throws StrataError `unsupported` if this file system does not keep it; what setxattr(2) throws
 */
export function keepXattr(at: string | Buffer, name: Buffer, value: Buffer, shown: () => Buffer): void {
  try {
    lsetxattr(at, name, value)
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (!REFUSALS.has(code) || (code === 'ENOSPC' && isFull(dirname(at.toString('latin1'))))) throw error
    throw new StrataError(
      'unsupported',
      `the file system of the node's folder does not keep the extended attribute ${JSON.stringify(name.toString())} ` +
        `(${value.length} bytes) of ${JSON.stringify(`/${shown().toString()}`)} (${code}): ` +
        'put STRATA_NODE_FOLDER on a file system that does, or leave the attribute out of the image',
      { cause: error },
    )
  }
}

function isFull(folder: string): boolean {
  const { bfree, bsize, ffree, files } = statfsSync(folder)
  return bfree * bsize < ROOM || (files > 0 && ffree === 0)
}
