import { closeSync, openSync } from 'node:fs'
import { bind, check } from '../libc.js'

const setns = bind('setns', ['int', 'int'])
const socket = bind('socket', ['int', 'int', 'int'])
const ioctl = bind('ioctl', ['int', 'ulong', 'ptr'])
const CLONE_NEWNET = 0x40000000
const AF_INET = 2
const SOCK_DGRAM_CLOEXEC = 0o2000002
const SIOCGIFFLAGS = 0x8913
const SIOCSIFFLAGS = 0x8914
const IFF_UP = 1
/** struct ifreq: the name in 16 bytes, then the flags. */
const IFREQ_SIZE = 40
const FLAGS_AT = 16

/**
 * Brings `lo` up in the network namespace of a process. This thread enters that namespace and comes
 * back before the call returns; should coming back fail, the thread is of no more use and the
 * process ends: it would speak to the wrong network.
 */
export function raiseLoopback(pid: number): void {
  const theirs = openSync(`/proc/${pid}/ns/net`, 'r')
  try {
    // Not /proc/self: that is the main thread, and this may be a worker.
    const ours = openSync('/proc/thread-self/ns/net', 'r')
    try {
      check(setns(theirs, CLONE_NEWNET), 'setns', `network namespace of ${pid}`)
      try {
        raise()
      } finally {
        if (setns(ours, CLONE_NEWNET) !== 0) process.abort()
      }
    } finally {
      closeSync(ours)
    }
  } finally {
    closeSync(theirs)
  }
}

function raise(): void {
  const fd = check(socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), 'socket')
  try {
    const request = Buffer.alloc(IFREQ_SIZE)
    request.write('lo')
    check(ioctl(fd, SIOCGIFFLAGS, request), 'SIOCGIFFLAGS', 'lo')
    request.writeInt16LE(request.readInt16LE(FLAGS_AT) | IFF_UP, FLAGS_AT)
    check(ioctl(fd, SIOCSIFFLAGS, request), 'SIOCSIFFLAGS', 'lo')
  } finally {
    closeSync(fd)
  }
}
