import { closeSync, constants, openSync } from 'node:fs'
import { bind, check, lastErrno, systemError } from '../libc.js'
import { mknod } from '../files/paths.js'

/** linux/loop.h. */
const LOOP_CTL_GET_FREE = 0x4c82
const LOOP_CONFIGURE = 0x4c0a
const LO_FLAGS_READ_ONLY = 1
const LO_FLAGS_AUTOCLEAR = 4
const LOOP_MAJOR = 7
const CONTROL = '/dev/loop-control'
const CONTROL_MAJOR = 10
const CONTROL_MINOR = 237
const BLOCK = 0o060600
const CHARACTER = 0o020600
const EBUSY = 16
/** Between asking for a free device and taking it another process may be quicker. */
const ATTEMPTS = 64

const ioctlNumber = bind('ioctl', ['int', 'ulong', 'long'])
const ioctlPointer = bind('ioctl', ['int', 'ulong', 'ptr'])

export interface LoopDevice {
  /** `/dev/loop7` */
  readonly device: string
  /**
   * Open on the device. With `autoclear` the device is free again once this and every mount of it
   * are gone; the caller closes it.
   */
  readonly fd: number
}

/**
 * Shows a file as a block device (LOOP_CONFIGURE, Linux 5.8). The device ends at the last whole
 * 512-byte block: what of the file lies beyond is not seen. Sees the file itself, whatever later
 * becomes of its name.
 */
export function attachLoop(
  file: string,
  options: { readonly readOnly: boolean; readonly autoclear: boolean },
): LoopDevice {
  const access = options.readOnly ? constants.O_RDONLY : constants.O_RDWR
  const backing = openSync(file, access)
  try {
    const control = openDevice(CONTROL, CHARACTER, CONTROL_MAJOR, CONTROL_MINOR, constants.O_RDWR)
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        const number = check(ioctlNumber(control, LOOP_CTL_GET_FREE, 0), 'LOOP_CTL_GET_FREE')
        const device = `/dev/loop${number}`
        const fd = openFree(device, number, access)
        if (fd === undefined) continue
        // struct loop_config: fd, block size, then struct loop_info64 (its lo_flags 52 bytes in),
        // then 64 reserved bytes.
        const config = Buffer.alloc(304)
        config.writeUInt32LE(backing, 0)
        config.writeUInt32LE(512, 4)
        config.writeUInt32LE(
          (options.readOnly ? LO_FLAGS_READ_ONLY : 0) | (options.autoclear ? LO_FLAGS_AUTOCLEAR : 0),
          8 + 52,
        )
        if (ioctlPointer(fd, LOOP_CONFIGURE, config) === 0) return { device, fd }
        const errno = lastErrno()
        closeSync(fd)
        if (errno !== EBUSY) throw systemError(errno, 'LOOP_CONFIGURE', `${file} as ${device}`)
      }
      throw systemError(EBUSY, 'LOOP_CONFIGURE', `no free loop device in ${ATTEMPTS} attempts`)
    } finally {
      closeSync(control)
    }
  } finally {
    closeSync(backing)
  }
}

/**
 * Opens a device, and makes its node first if there is none: in a container that has a /dev of its
 * own nobody else does, neither for a new loop device nor for the control device.
 */
function openDevice(path: string, mode: number, major: number, minor: number, access: number): number {
  try {
    return openSync(path, access)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
    makeNode(path, mode, major, minor)
    return openSync(path, access)
  }
}

/** Another process may make the same node at the same time. */
function makeNode(path: string, mode: number, major: number, minor: number): void {
  try {
    mknod(path, mode, major, minor)
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
  }
}

/**
 * Opens a device that was free. `undefined`: another process took it meanwhile and gives it back
 * just now; Linux opens no device that is being detached (ENXIO).
 */
function openFree(device: string, number: number, access: number): number | undefined {
  try {
    return openDevice(device, BLOCK, LOOP_MAJOR, number, access)
  } catch (error) {
    if (isErrno(error, 'ENXIO')) return undefined
    throw error
  }
}

function isErrno(error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException).code === code
}
