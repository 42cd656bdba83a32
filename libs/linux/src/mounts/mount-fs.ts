import { closeSync, openSync, readSync } from 'node:fs'
import { AT_FDCWD, bindSyscall, check, cString, lastErrno, systemError, type Path } from '../libc.js'

/** Numbers of calls from 424 on are the same on every architecture. */
const moveMount = bindSyscall(429, ['int', 'ptr', 'int', 'ptr', 'uint'])
const fsopen = bindSyscall(430, ['ptr', 'uint'])
const fsconfig = bindSyscall(431, ['int', 'uint', 'ptr', 'ptr', 'int'])
const fsmount = bindSyscall(432, ['int', 'uint', 'uint'])

const FSCONFIG_SET_FLAG = 0
const FSCONFIG_SET_STRING = 1
const FSCONFIG_CMD_CREATE = 6
const MOVE_MOUNT_F_EMPTY_PATH = 4
const CLOEXEC = 1
/** The kernel takes no longer value (fs/fsopen.c copies at most 256 bytes, the zero included). */
const MAX_VALUE = 255

export interface MountFs {
  readonly fstype: string
  readonly source?: MountValue
  /**
   * In order; an option may come any number of times (`lowerdir+`, `device`): there is no page to
   * fill as with mount(2). No value = a flag.
   */
  readonly options?: readonly (readonly [key: string, value?: MountValue])[]
  readonly target: Path
  /** Both the file system and the mount. */
  readonly readOnly?: boolean
  readonly nosuid?: boolean
  readonly nodev?: boolean
}
/** Text as it is, or the path of a file or folder, which may be of any length. */
export type MountValue = string | { readonly path: string }

/**
 * Mounts by fsopen(2), fsconfig(2), fsmount(2), move_mount(2) (Linux 5.2). The mount appears whole
 * or not at all. An error holds what the kernel wrote about it into the file system's context.
 */
export function mountFs(request: MountFs): void {
  const files: number[] = []
  const text = (value: MountValue): Buffer => {
    if (typeof value === 'string') return cString(value)
    if (Buffer.byteLength(value.path) <= MAX_VALUE) return cString(value.path)
    // A long path is given through a descriptor that is open until the file system has been made.
    const fd = openSync(value.path, 'r')
    files.push(fd)
    return cString(`/proc/self/fd/${fd}`)
  }
  try {
    const context = check(fsopen(cString(request.fstype), CLOEXEC), 'fsopen', request.fstype)
    files.push(context)
    const set = (command: number, key: string | null, value: Buffer | null): void => {
      const result = fsconfig(context, command, key === null ? null : cString(key), value, 0)
      if (result < 0)
        throw systemError(lastErrno(), 'fsconfig', [request.fstype, key ?? 'create', ...contextLog(context)].join(': '))
    }
    if (request.source !== undefined) set(FSCONFIG_SET_STRING, 'source', text(request.source))
    for (const [key, value] of request.options ?? []) {
      if (value === undefined) set(FSCONFIG_SET_FLAG, key, null)
      else set(FSCONFIG_SET_STRING, key, text(value))
    }
    if (request.readOnly) set(FSCONFIG_SET_FLAG, 'ro', null)
    set(FSCONFIG_CMD_CREATE, null, null)
    const attributes = (request.readOnly ? 1 : 0) | (request.nosuid ? 2 : 0) | (request.nodev ? 4 : 0)
    const mount = check(fsmount(context, CLOEXEC, attributes), 'fsmount', request.fstype)
    files.push(mount)
    check(
      moveMount(mount, cString(''), AT_FDCWD, cString(request.target), MOVE_MOUNT_F_EMPTY_PATH),
      'move_mount',
      String(request.target),
    )
  } finally {
    for (const fd of files) closeSync(fd)
  }
}

/** The messages in the context's log, one a read, as `e overlay: …`; ENODATA after the last. */
function contextLog(context: number): string[] {
  const lines: string[] = []
  const buffer = Buffer.alloc(1024)
  try {
    for (;;) {
      const length = readSync(context, buffer)
      if (length === 0) return lines
      lines.push(buffer.toString('utf8', 0, length).trim())
    }
  } catch {
    return lines
  }
}
