import { createRequire } from 'node:module'
import type { KoffiFunc, LibraryHandle } from 'koffi'

/**
 * The one place where C is called. Every function is bound at its first call: loading koffi takes
 * some 20 ms, which a process that makes no such call should not pay.
 */
export type NativeArgument = number | Uint8Array | null
export type NativeFunction = (...args: NativeArgument[]) => number
/** `int`, `uint`, `long`, `ulong` as in C; `ptr` is a Buffer or null. */
export type NativeType = 'int' | 'uint' | 'long' | 'ulong' | 'ptr'

const require = createRequire(import.meta.url)
type Koffi = typeof import('koffi')
let koffi: Koffi | undefined
const libraries = new Map<string | null, LibraryHandle>()

/** `null` is the program itself: Node, with what it has linked in and exports. */
function load(library: string | null = 'libc.so.6'): LibraryHandle {
  koffi ??= require('koffi') as Koffi
  const loaded = libraries.get(library) ?? koffi.load(library)
  libraries.set(library, loaded)
  return loaded
}

export function bind(
  name: string,
  args: readonly NativeType[],
  result: NativeType = 'int',
  library?: null,
): NativeFunction {
  let bound: NativeFunction | undefined
  return (...values) => {
    bound ??= load(library).func(name, result, args.map(asKoffi)) as NativeFunction
    return bound(...values)
  }
}

/** Arguments of calls that are under way: the collector must not take their buffers. */
const inUse = new Set<readonly NativeArgument[]>()

/**
 * As `bind`, for a call that may wait for a disk: a thread of Node's pool makes it. That pool has
 * four threads, which files and names of hosts use too, so the caller bounds how many it makes at
 * once. `errno` counts if the result says that the call failed.
 */
export function bindInPool(
  name: string,
  args: readonly NativeType[],
  result: NativeType = 'int',
): (...args: NativeArgument[]) => Promise<{ readonly result: number; readonly errno: number }> {
  let bound: KoffiFunc<NativeFunction> | undefined
  return (...values) => {
    bound ??= load().func(name, result, args.map(asKoffi)) as KoffiFunc<NativeFunction>
    const call = bound.async
    inUse.add(values)
    return new Promise((resolve, reject) => {
      call(...values, (error: Error | null, returned: number) => {
        // Before anything else: each call of this thread changes it.
        const errno = lastErrno()
        inUse.delete(values)
        if (error) reject(error)
        else resolve({ result: returned, errno })
      })
    })
  }
}

function asKoffi(type: NativeType): string {
  return type === 'ptr' ? 'void *' : type
}

/** A system call that glibc has no function for, or not in every version in use. */
export function bindSyscall(number: number, args: readonly NativeType[]): NativeFunction {
  const call = bind('syscall', ['long', ...args], 'long')
  return (...values) => call(number, ...values)
}

/** Whether this glibc has the function: some came later than the oldest one we run on. */
export function has(name: string): boolean {
  try {
    load().func(name, 'int', [])
    return true
  } catch {
    return false
  }
}

/** What a failed call throws: `code` is the errno's name, as in errors of node:fs. */
export class SystemError extends Error {
  override readonly name = 'SystemError'
  constructor(
    readonly code: string,
    readonly errno: number,
    readonly call: string,
    detail: string,
  ) {
    super(`${call}: ${code}${detail ? `: ${detail}` : ''}`)
  }
}

export function systemError(errno: number, call: string, detail = ''): SystemError {
  load()
  const code = Object.entries(koffi?.os.errno ?? {}).find(([, value]) => value === errno)?.[0] ?? `E${errno}`
  return new SystemError(code, errno, call, detail)
}

/**
 * The address of a buffer, for structures that hold pointers. The buffer must outlive the call:
 * keep a reference to it.
 */
export function addressOf(buffer: Uint8Array): bigint {
  load()
  return koffi?.address(buffer) ?? 0n
}

/** errno of the last call; only valid directly after it. */
export function lastErrno(): number {
  return koffi?.errno() ?? 0
}

/** The result, or the error if it is -1. */
export function check(result: number, call: string, detail = ''): number {
  if (result < 0) throw systemError(lastErrno(), call, detail)
  return result
}

export type Path = Buffer | string

/** A name as C wants it. A zero byte in it would name another file than was checked: refused. */
export function cString(text: Path): Buffer {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text
  if (bytes.includes(0)) throw new SystemError('EINVAL', 22, 'path', 'a name has a zero byte')
  const terminated = Buffer.allocUnsafe(bytes.length + 1)
  terminated.set(bytes)
  terminated[bytes.length] = 0
  return terminated
}

/** For messages. */
export function show(path: Path): string {
  return typeof path === 'string' ? path : path.toString()
}

export const AT_FDCWD = -100
