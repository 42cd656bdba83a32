import { constants } from 'node:os'
import { addressOf, bind, check, cString, has, systemError, type NativeArgument } from '../libc.js'

/**
 * Larger than glibc's structures on x86-64 and aarch64 (336 and 80 bytes), which only glibc's own
 * functions look into.
 */
const ATTRIBUTES_SIZE = 512
const ACTIONS_SIZE = 256
const SIGNAL_SET_SIZE = 128
const POSIX_SPAWN_SETSIGDEF = 4
const POSIX_SPAWN_SETSIGMASK = 8
const POSIX_SPAWN_SETSID = 0x80
const O_RDWR = 2
const WNOHANG = 1
const EINTR = 4
const ECHILD = 10

const call = {
  spawn: bind('posix_spawn', ['ptr', 'ptr', 'ptr', 'ptr', 'ptr', 'ptr']),
  actionsInit: bind('posix_spawn_file_actions_init', ['ptr']),
  actionsDestroy: bind('posix_spawn_file_actions_destroy', ['ptr']),
  addDup2: bind('posix_spawn_file_actions_adddup2', ['ptr', 'int', 'int']),
  addClose: bind('posix_spawn_file_actions_addclose', ['ptr', 'int']),
  addCloseFrom: bind('posix_spawn_file_actions_addclosefrom_np', ['ptr', 'int']),
  addOpen: bind('posix_spawn_file_actions_addopen', ['ptr', 'int', 'ptr', 'int', 'uint']),
  addChdir: bind('posix_spawn_file_actions_addchdir_np', ['ptr', 'ptr']),
  attrInit: bind('posix_spawnattr_init', ['ptr']),
  attrDestroy: bind('posix_spawnattr_destroy', ['ptr']),
  setFlags: bind('posix_spawnattr_setflags', ['ptr', 'int']),
  setSigDefault: bind('posix_spawnattr_setsigdefault', ['ptr', 'ptr']),
  setSigMask: bind('posix_spawnattr_setsigmask', ['ptr', 'ptr']),
  sigFill: bind('sigfillset', ['ptr']),
  sigEmpty: bind('sigemptyset', ['ptr']),
  sigDelete: bind('sigdelset', ['ptr', 'int']),
}
const prlimit = bind('prlimit', ['int', 'int', 'ptr', 'ptr'])
const RLIMIT_FSIZE = 1
const waitpidCall = bind('waitpid', ['int', 'ptr', 'int'])

export interface SpawnRequest {
  /** Absolute: PATH is not searched. */
  readonly file: string
  /** With argv[0]. */
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd?: string
  /** Our descriptors that become 0, 1, 2, 3, … there; null = /dev/null. All others are closed. */
  readonly stdio: readonly (number | null)[]
  /** setsid(2): a session of its own, so that no signal of our terminal or group reaches it. */
  readonly newSession?: boolean
  /**
   * A write beyond `limitFileSize` fails there with EFBIG, where it would end the process: SIGXFSZ
   * stays ignored, as it is in Node.
   */
  readonly survivesFileLimit?: boolean
}

/**
 * posix_spawn(3): costs the same however large this process is, where child_process.spawn forks and
 * so blocks for as long as its page tables take to copy. The child has every signal at its default
 * and none blocked. Nobody but the caller waits for it: `waitpid`. Gives the pid; ENOENT, EACCES
 * and their like if the program could not be run.
 */
export function posixSpawn(request: SpawnRequest): number {
  const actions = Buffer.alloc(ACTIONS_SIZE)
  const attributes = Buffer.alloc(ATTRIBUTES_SIZE)
  // Attributes are copied; of actions glibc copies the paths too.
  must(call.actionsInit(actions), 'posix_spawn_file_actions_init')
  must(call.attrInit(attributes), 'posix_spawnattr_init')
  try {
    placeDescriptors(actions, request.stdio)
    if (request.cwd !== undefined)
      must(call.addChdir(actions, cString(request.cwd)), 'posix_spawn_file_actions_addchdir_np')
    const signals = Buffer.alloc(SIGNAL_SET_SIZE)
    call.sigFill(signals)
    if (request.survivesFileLimit) call.sigDelete(signals, constants.signals.SIGXFSZ)
    must(call.setSigDefault(attributes, signals), 'posix_spawnattr_setsigdefault')
    call.sigEmpty(signals)
    must(call.setSigMask(attributes, signals), 'posix_spawnattr_setsigmask')
    must(
      call.setFlags(
        attributes,
        POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | (request.newSession ? POSIX_SPAWN_SETSID : 0),
      ),
      'posix_spawnattr_setflags',
    )
    const pid = Buffer.alloc(4)
    const argv = stringArray(request.argv)
    const env = stringArray(Object.entries(request.env).map(([name, value]) => `${name}=${value}`))
    must(call.spawn(pid, cString(request.file), actions, attributes, argv, env), 'posix_spawn', request.file)
    return pid.readInt32LE(0)
  } finally {
    call.attrDestroy(attributes)
    call.actionsDestroy(actions)
  }
}

/**
 * RLIMIT_FSIZE of a running process: no file that it writes grows beyond. What it has started
 * before is not limited.
 */
export function limitFileSize(pid: number, bytes: number): void {
  const limit = Buffer.alloc(16)
  for (const at of [0, 8]) limit.writeBigUInt64LE(BigInt(bytes), at)
  check(prlimit(pid, RLIMIT_FSIZE, limit, null), 'prlimit', String(pid))
}

/**
 * Each descriptor goes to a number above all that are in play and from there to its place, so that
 * none is overwritten before it was used.
 */
function placeDescriptors(actions: Buffer, stdio: SpawnRequest['stdio']): void {
  const free = Math.max(stdio.length - 1, ...stdio.map((fd) => fd ?? 0)) + 1
  const add = (fn: (...args: NativeArgument[]) => number, ...args: NativeArgument[]): void =>
    must(fn(actions, ...args), 'posix_spawn_file_actions')
  stdio.forEach((fd, place) => {
    if (fd === null) add(call.addOpen, free + place, cString('/dev/null'), O_RDWR, 0)
    else add(call.addDup2, fd, free + place)
  })
  stdio.forEach((_, place) => {
    add(call.addDup2, free + place, place)
    add(call.addClose, free + place)
  })
  // Node opens everything close-on-exec; this also catches what a parent left open to us (glibc
  // 2.34).
  closeFromExists ??= has('posix_spawn_file_actions_addclosefrom_np')
  if (closeFromExists) add(call.addCloseFrom, stdio.length)
}
let closeFromExists: boolean | undefined

/** The functions of this family give the errno itself. */
function must(errno: number, name: string, detail = ''): void {
  if (errno !== 0) throw systemError(errno, name, detail)
}

/**
 * A NULL-terminated array of pointers, with the strings behind it in the same buffer: what keeps
 * the one alive keeps the other.
 */
function stringArray(texts: readonly string[]): Buffer {
  const strings = texts.map((text) => cString(text))
  const head = (strings.length + 1) * 8
  const array = Buffer.alloc(head + strings.reduce((sum, text) => sum + text.length, 0))
  const base = addressOf(array)
  let at = head
  strings.forEach((text, place) => {
    array.writeBigUInt64LE(base + BigInt(at), place * 8)
    array.set(text, at)
    at += text.length
  })
  return array
}

export type WaitResult =
  { readonly pid: number; readonly code: number } | { readonly pid: number; readonly signal: NodeJS.Signals | number }

/**
 * waitpid(2) for a child made by posixSpawn. With `nohang` undefined = it still runs; without it
 * the thread waits. Also undefined if it is no child of ours (any more). Never give it -1: Node's
 * own children would be taken from libuv.
 */
export function waitpid(pid: number, nohang: boolean): WaitResult | undefined {
  if (pid <= 0) throw systemError(ECHILD, 'waitpid', 'only a single child can be waited for')
  const status = Buffer.alloc(4)
  for (;;) {
    const result = waitpidCall(pid, status, nohang ? WNOHANG : 0)
    if (result > 0) break
    if (result === 0) return undefined
    try {
      check(result, 'waitpid', String(pid))
    } catch (error) {
      const { errno } = error as { errno?: number }
      if (errno === ECHILD) return undefined
      if (errno !== EINTR) throw error
    }
  }
  const word = status.readInt32LE(0)
  const signal = word & 0x7f
  if (signal === 0) return { pid, code: (word >> 8) & 0xff }
  const name = Object.entries(constants.signals).find(([, value]) => value === signal)?.[0] as
    NodeJS.Signals | undefined
  return { pid, signal: name ?? signal }
}
