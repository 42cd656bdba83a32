import { closeSync } from 'node:fs'
import type { Socket } from 'node:net'
import { bindInPool } from '../libc.js'
import { duplicate, systemSocketOf } from './socket.js'

const sendfile = bindInPool('sendfile64', ['int', 'int', 'ptr', 'ulong'], 'long')

/**
 * Calls that are under way at once, of all sockets of the process. Half of the threads of Node's
 * pool stay free: if the disk of these files stands still, others are read on.
 */
const AT_ONCE = 2
/** EINVAL, ENOSYS, EOVERFLOW, EOPNOTSUPP: not of this file, or not to this socket. */
const CANNOT_SEND: ReadonlySet<number> = new Set([22, 38, 75, 95])

let underWay = 0
const waiting: (() => void)[] = []

/**
 * Sends bytes of a file to a socket of Node's, within the kernel (sendfile(2)): from `start`, at
 * most `length`. That also bounds how long calls for other sockets wait for this one. Gives how
 * many bytes the socket took.
 *
 * - Less than `length`: the socket has no room, or is broken, or the file ends or cannot be read.
 *   The caller goes on by reading the file and writing to the socket. That shows which it is, and
 *   the end of a write shows that the socket has room again.
 * - `undefined`: it cannot be done here (TLS, a closed socket, a file system without it).
 *
 * Laws
 * - The call never waits for the client: sockets of Node's do not block.
 * - Everything that was written to the socket before must be in the kernel, and nothing is written
 *   to it before the promise is settled: else the bytes are mixed.
 * - It works on a descriptor of its own, which is closed when the promise is settled. Node may
 *   close the socket meanwhile, and the number of a closed descriptor may be another client's.
 * - The caller keeps the file open until the promise is settled.
 */
export async function sendFile(
  socket: Socket,
  file: number,
  start: number,
  length: number,
): Promise<number | undefined> {
  if (underWay < AT_ONCE) underWay++
  else await new Promise<void>((resolve) => waiting.push(resolve))
  try {
    // Not before its turn: the socket may have been closed meanwhile.
    const system = systemSocketOf(socket)
    if (system === undefined) return undefined
    const own = duplicate(system.fd)
    try {
      const offset = Buffer.alloc(8)
      offset.writeBigInt64LE(BigInt(start))
      const { result, errno } = await sendfile(own, file, offset, length)
      if (result >= 0) return result
      return CANNOT_SEND.has(errno) ? undefined : 0
    } finally {
      closeSync(own)
    }
  } finally {
    const next = waiting.shift()
    if (next) next()
    else underWay--
  }
}
