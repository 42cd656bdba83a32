import { closeSync, fstatSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import type { Descriptor } from '@strata/api'
import {
  descriptorOf,
  isReadable,
  mountTable,
  openPidfd,
  peerCredentials,
  peerPidfd,
  pidfdIsAlive,
  systemSocketOf,
} from '@strata/linux'
import { StrataError } from '@strata/base'
import { listenerOf } from '@strata/platform'

/** An open file of a client (a passed fd), for reading at any offset. Its user must `close` it. */
export interface CallersFile {
  readonly fd: number
  readonly size: number
  /**
   * @throws StrataError `archive_changed` if size or time of the file are not those that the caller
   * named
   */
  throwIfChanged(): void
  close(): void
}

/**
 * Takes over a descriptor of the process that connected.
 *
 * We are root and the caller may have no rights, so our rights to open a file mean nothing. We open
 * nothing: pidfd_getfd(2) gives the caller's own open file, with the access that the caller got
 * when *it* opened it. A file that is not open for reading (O_WRONLY, O_PATH) is refused by its own
 * flags, not by an earlier check. So nothing is read that the caller could not read itself, in any
 * mount namespace, and there is no moment between check and use. (An open of /proc/<pid>/fd/<n>
 * would open the file again, with our rights.)
 *
 * The process must be the one that connected, and must still act for that user. The kernel gives a
 * pidfd of the connection (Linux 6.5), and /proc/<pid>/fd must belong to the user who connected.
 * The kernel gives that folder (not /proc/<pid> itself) to root while the process runs a program
 * with rights of its own, whose files are not its caller's. Before 6.5 the pid may have been used
 * again. By the same check that is another process of the same user, whose files the caller may
 * read anyway.
 *
 * On a file system that a user's own program serves, a read may never return. A file on one is
 * refused before the file system is asked anything. Callers in another user namespace are refused
 * too, because they can mount such file systems.
 *
 * @throws StrataError `descriptor_refused`: the bytes may still be sent; `archive_changed`
 */
export function openCallersFile(request: IncomingMessage, named: Descriptor): CallersFile {
  const fd = takeDescriptor(request, named.fd)
  const close = (): void => closeSync(fd)
  try {
    checkIdentity(fd, named)
    throwIfChanged(fd, named)
    return { fd, size: Number(named.size), throwIfChanged: () => throwIfChanged(fd, named), close }
  } catch (error) {
    close()
    throw error
  }
}

function takeDescriptor(request: IncomingMessage, number: number): number {
  if (listenerOf(request)?.kind !== 'unix') throw refused('descriptors are taken over a unix socket only')
  const connection = systemSocketOf(request.socket)
  if (connection === undefined) throw refused('the connection is closed')
  return attempt(() => {
    const { pid, uid } = peerCredentials(connection.fd)
    if (pid <= 0) throw refused('the caller is in another pid namespace')
    const pidfd = peerPidfd(connection.fd) ?? openPidfd(pid)
    try {
      return descriptorFrom(pidfd, pid, uid, number)
    } finally {
      closeSync(pidfd)
    }
  })
}

function descriptorFrom(pidfd: number, pid: number, uid: number, number: number): number {
  const checkProcess = (): void => {
    if (statSync(`/proc/${pid}/fd`).uid !== uid) throw refused('the process that connected does not act for its user')
    if (readlinkSync(`/proc/${pid}/ns/user`) !== readlinkSync('/proc/self/ns/user'))
      throw refused('the caller is in another user namespace')
    // This check is last. The process is alive, so no other process has had its pid meanwhile, and
    // the checks above were about this process.
    if (!pidfdIsAlive(pidfd)) throw refused('the process that connected has ended')
  }
  checkProcess()
  const fd = descriptorOf(pidfd, number)
  try {
    checkProcess()
    if (!isReadable(fd)) throw refused(`descriptor ${number} is not open for reading`)
    checkFileSystem(fd, pid)
    return fd
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/** File systems of user programs and of other machines: a read may never return. */
const MAY_HANG = /^(?:fuse|nfs|cifs|smb|9p|ceph|afs|autofs)/

function checkFileSystem(fd: number, pid: number): void {
  const id = /^mnt_id:\s*([0-9]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1]
  const mounted = mountTable(pid).find((mount) => String(mount.id) === id)
  if (mounted === undefined) throw refused('the file lies where the caller has nothing mounted')
  if (MAY_HANG.test(mounted.fsType)) throw refused(`files on ${mounted.fsType} are not read in place`)
}

function checkIdentity(fd: number, named: Descriptor): void {
  const status = attempt(() => fstatSync(fd, { bigint: true }))
  if (!status.isFile()) throw refused(`descriptor ${named.fd} is no regular file`)
  if (String(status.dev) !== named.dev || String(status.ino) !== named.ino)
    throw refused(`descriptor ${named.fd} is another file than was named`)
  if (status.size > BigInt(Number.MAX_SAFE_INTEGER)) throw refused('the file is too large')
}

function throwIfChanged(fd: number, named: Descriptor): void {
  const status = fstatSync(fd, { bigint: true })
  if (String(status.size) === named.size && String(status.mtimeNs) === named.mtimeNs) return
  throw new StrataError(
    'archive_changed',
    'the archive was changed while it was read: load it again when nobody writes to it',
  )
}

/**
 * An error of the kernel means that the file cannot be read in place. Then the client sends the
 * bytes.
 */
function attempt<T>(act: () => T): T {
  try {
    return act()
  } catch (error) {
    if (error instanceof StrataError) throw error
    throw refused(error instanceof Error ? error.message : String(error), error)
  }
}

function refused(why: string, cause?: unknown): StrataError {
  return new StrataError('descriptor_refused', `the archive cannot be read in place: ${why}`, { cause })
}
