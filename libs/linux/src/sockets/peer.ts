import { bind, bindSyscall, check, lastErrno } from '../libc.js'

const getsockopt = bind('getsockopt', ['int', 'int', 'int', 'ptr', 'ptr'])
const fcntl = bind('fcntl', ['int', 'int', 'int'])
const pidfdOpenCall = bindSyscall(434, ['int', 'uint'])
const pidfdGetfdCall = bindSyscall(438, ['int', 'int', 'uint'])
const pidfdSendSignalCall = bindSyscall(424, ['int', 'int', 'ptr', 'uint'])
const SOL_SOCKET = 1
const SO_PEERCRED = 17
const SO_PEERPIDFD = 77
const F_GETFL = 3
const O_ACCMODE = 3
const O_RDONLY = 0
const O_RDWR = 2
const O_PATH = 0o10000000
const EPERM = 1
const ENOPROTOOPT = 92

/**
 * Who connected to a unix socket, as it was at that moment (unix(7)). `pid` is 0 for a process that
 * this pid namespace does not show.
 */
export interface PeerCredentials {
  readonly pid: number
  readonly uid: number
  readonly gid: number
}

export function peerCredentials(socket: number): PeerCredentials {
  const credentials = peerOption(socket, SO_PEERCRED, 12)
  return { pid: credentials.readInt32LE(0), uid: credentials.readUInt32LE(4), gid: credentials.readUInt32LE(8) }
}

/**
 * A descriptor of the process that connected: it stands for that process for good, also when the
 * pid is used again. `undefined` where the kernel cannot say (before 6.5). The caller closes it.
 */
export function peerPidfd(socket: number): number | undefined {
  try {
    return peerOption(socket, SO_PEERPIDFD, 4).readInt32LE(0)
  } catch (error) {
    if ((error as { errno?: number }).errno === ENOPROTOOPT) return undefined
    throw error
  }
}

function peerOption(socket: number, option: number, size: number): Buffer {
  const value = Buffer.alloc(size)
  const length = Buffer.alloc(4)
  length.writeUInt32LE(size)
  check(getsockopt(socket, SOL_SOCKET, option, value, length), 'getsockopt')
  return value
}

/** pidfd_open(2). The caller closes it. */
export function openPidfd(pid: number): number {
  return check(pidfdOpenCall(pid, 0), 'pidfd_open', String(pid))
}

/** Whether the process has not been waited for yet. */
export function pidfdIsAlive(pidfd: number): boolean {
  return pidfdSendSignalCall(pidfd, 0, null, 0) === 0 || lastErrno() === EPERM
}

/**
 * pidfd_getfd(2): a descriptor of the *same open file* as the process has under that number, with
 * what it may do with it and no more. EBADF: it has none; ESRCH: it is gone; EPERM: this process
 * may not trace it. The caller closes it.
 */
export function descriptorOf(pidfd: number, number: number): number {
  return check(pidfdGetfdCall(pidfd, number, 0), 'pidfd_getfd', String(number))
}

/**
 * Whether a file was opened for reading. One opened with O_PATH was not, whatever else its flags
 * say.
 */
export function isReadable(fd: number): boolean {
  const flags = check(fcntl(fd, F_GETFL, 0), 'fcntl')
  const mode = flags & O_ACCMODE
  return (flags & O_PATH) === 0 && (mode === O_RDONLY || mode === O_RDWR)
}
