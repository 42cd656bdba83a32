import { bindInPool } from '../libc.js'

const syncFileRange = bindInPool('sync_file_range', ['int', 'long', 'long', 'uint'])
const SYNC_FILE_RANGE_WRITE = 2

/**
 * Has the kernel begin to write a part of a file to its disk (sync_file_range(2)). Resolves when
 * that has begun: a full queue of the disk can delay it. It makes nothing durable, and a failure
 * means nothing: the kernel writes the part later.
 *
 * `fd` must stay open until it resolves.
 */
export async function beginWriteback(fd: number, offset: number, length: number): Promise<void> {
  await syncFileRange(fd, offset, length, SYNC_FILE_RANGE_WRITE)
}
