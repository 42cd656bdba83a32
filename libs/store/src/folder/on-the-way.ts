import { beginWriteback } from '@strata/linux'

/** So much is written between one `beginWriteback` of a file and the next. */
const WRITEBACK_BYTES = 8 * 1024 * 1024

/** A call holds one of the four threads of Node's pool for as long as the disk's queue is full. */
let isBeginning = false

/**
 * The same bytes. What was written of them goes to the disk meanwhile. Otherwise the kernel begins
 * when a tenth of the memory is full of them, and soon after that every writer waits for the disk.
 *
 * One file of the process at a time: the others make up for it with their next chunk.
 */
export async function* onTheWay(
  fd: number,
  chunks: AsyncIterable<Uint8Array>,
  begin: (fd: number, offset: number, length: number) => Promise<void> = beginWriteback,
): AsyncGenerator<Uint8Array> {
  let written = 0
  let begun = 0
  let beginning: Promise<void> | undefined
  const hasBegun = (): void => {
    isBeginning = false
    beginning = undefined
  }
  try {
    for await (const chunk of chunks) {
      yield chunk
      written += chunk.length
      if (isBeginning || written - begun < WRITEBACK_BYTES) continue
      isBeginning = true
      beginning = begin(fd, begun, written - begun).then(hasBegun, hasBegun)
      begun = written
    }
  } finally {
    await beginning
  }
}
