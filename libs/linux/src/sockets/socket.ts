import type { Socket } from 'node:net'
import { bind, check, lastErrno, systemError } from '../libc.js'

const recv = bind('recv', ['int', 'ptr', 'ulong', 'int'], 'long')
const poll = bind('poll', ['ptr', 'ulong', 'int'])
const fcntl = bind('fcntl', ['int', 'int', 'int'])
const MSG_DONTWAIT = 0x40
const POLLIN = 1
const F_DUPFD_CLOEXEC = 1030
const EINTR = 4
const EAGAIN = 11

/** What lies below a socket of Node's, and what lets Node read from it and not. */
export interface SystemSocket {
  readonly fd: number
  /** Whether Node believes that it reads. */
  reading?: boolean
  readStart(): unknown
  readStop(): unknown
}

/**
 * Node keeps it in a field that is not part of its API: where that is not as we know it, there is
 * none, and callers do without. Nor is there one below TLS: its bytes are others.
 */
export function systemSocketOf(socket: Socket): SystemSocket | undefined {
  const { _handle: handle, encrypted } = socket as unknown as {
    _handle?: Partial<SystemSocket> | null
    encrypted?: unknown
  }
  const isKnown =
    typeof handle?.fd === 'number' &&
    handle.fd >= 0 &&
    typeof handle.readStart === 'function' &&
    typeof handle.readStop === 'function'
  return isKnown && encrypted === undefined ? (handle as SystemSocket) : undefined
}

/** A second descriptor of the same open file. The caller closes it. */
export function duplicate(fd: number): number {
  return check(fcntl(fd, F_DUPFD_CLOEXEC, 0), 'fcntl')
}

/**
 * Takes what has come, at most what the buffer holds. 0 = the other side has closed; `undefined` =
 * nothing has come.
 */
export function receiveNow(fd: number, buffer: Uint8Array): number | undefined {
  const length = recv(fd, buffer, buffer.byteLength, MSG_DONTWAIT)
  if (length >= 0) return length
  const errno = lastErrno()
  if (errno === EAGAIN || errno === EINTR) return undefined
  throw systemError(errno, 'recv')
}

/** Blocks the thread until something has come (or the other side has closed), at most so long. */
export function waitReadable(fd: number, milliseconds: number): boolean {
  const wanted = Buffer.alloc(8)
  wanted.writeInt32LE(fd, 0)
  wanted.writeInt16LE(POLLIN, 4)
  const ready = poll(wanted, 1, milliseconds)
  return ready < 0 && lastErrno() === EINTR ? false : check(ready, 'poll') > 0
}
