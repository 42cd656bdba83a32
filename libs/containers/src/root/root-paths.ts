import { isUtf8 } from 'node:buffer'
import { closeSync, fstatSync, readSync, readlinkSync, symlinkSync, constants } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { mkdirat, O_PATH, openat2, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS } from '@strata/linux'
import { StrataError } from '@strata/base'

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NONBLOCK, O_NOFOLLOW, O_DIRECTORY } = constants
/** As the kernel's own limit on a path. */
const MAX_LINKS = 40
const MAX_PATH = 4096
/**
 * Names that are looked at for one container, over all its paths: each may be a folder to make, and
 * 4,096 of its volumes' may lead through links again and again.
 */
const MAX_STEPS = 16_384
/** Steps without a rest. A folder takes half a millisecond on a slow disk. */
const SLICE = 32
const INSIDE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS

/**
 * Where the runtime mounts what the kernel makes: what an image has there is not there in a
 * container.
 */
export const KERNEL_FOLDERS: readonly string[] = ['/proc', '/dev', '/sys']

/** passwd and group of an image: a real one has a few KiB. */
const MAX_SMALL_FILE = 1024 * 1024

const codeOf = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : undefined)

/**
 * Paths inside a root file system that nobody may trust. The kernel resolves each within the root
 * (openat2, RESOLVE_IN_ROOT): links, `..` and absolute targets end inside, whatever the image
 * holds; nothing is ever joined to the root as text. Close it after use.
 *
 * Folders and files are made in slices of the thread's time, since a small image may name many and
 * deep ones, and all of one object's are bounded.
 */
export class RootPaths {
  readonly #root: number
  #steps = 0

  constructor(root: string) {
    this.#root = openat2(root, '.', O_PATH | O_DIRECTORY, 0)
  }

  close(): void {
    closeSync(this.#root)
  }

  /**
   * What the runtime mounts over must be a folder or absent: runc follows a link there out of the
   * root (CVE-2026-41579 and its kind).
   */
  requireKernelFolders(): void {
    for (const name of KERNEL_FOLDERS) {
      const kind = kindAt(this.#root, name)
      if (kind !== 'absent' && kind !== 'directory')
        throw new StrataError(
          'launch_failed',
          `the container's ${name} is ${kind === 'link' ? 'a symbolic link' : 'a file'}, not a folder: such a container is not started`,
        )
    }
  }

  /**
   * A regular file of at most 1 MiB as text; '' if there is none. Anything else there is refused:
   * it may be made to block, or to be read for ever.
   */
  readSmall(path: string): string {
    try {
      const at = this.#open(path, O_PATH)
      try {
        if (!fstatSync(at).isFile())
          throw new StrataError('launch_failed', `the container's ${path} is not a regular file`)
      } finally {
        closeSync(at)
      }
      const fd = this.#open(path, O_RDONLY | O_NONBLOCK)
      try {
        // One byte more than allowed: size in stat may lie (an overlay copy-up, a growing file).
        const bytes = Buffer.alloc(Math.min(fstatSync(fd).size, MAX_SMALL_FILE) + 1)
        const length = readSync(fd, bytes, 0, bytes.length, 0)
        if (length > MAX_SMALL_FILE)
          throw new StrataError('launch_failed', `the container's ${path} has more than ${MAX_SMALL_FILE} bytes`)
        return bytes.toString('utf8', 0, length)
      } finally {
        closeSync(fd)
      }
    } catch (error) {
      if (['ENOENT', 'ENOTDIR'].includes(codeOf(error) as string)) return ''
      throw this.#refuse(path, error)
    }
  }

  /**
   * Makes a folder (0755, root's) with all that is missing above it. Answers its path without
   * links: what the process will find there.
   */
  async makeFolder(path: string): Promise<string> {
    return this.#make(path, 'directory')
  }

  /**
   * Makes an empty file (0644) as a target for a bind mount, unless a regular file is there.
   * Answers its path without links.
   */
  async makeFile(path: string): Promise<string> {
    return this.#make(path, 'file')
  }

  /**
   * Makes a symbolic link, with all folders that are missing above it. Leaves what is there,
   * whatever it is.
   */
  async makeLink(path: string, target: string): Promise<void> {
    const parts = partsOf(path)
    const [name = ''] = parts.splice(0, 1)
    const walk = new Walk(this.#root)
    try {
      for (const part of partsOf(await this.makeFolder(parts.reverse().join('/'))).reverse()) walk.enter(part)
      if (walk.look(name) === 'absent') walk.makeLink(name, target)
    } catch (error) {
      throw this.#refuse(path, error)
    } finally {
      walk.close()
    }
  }

  /**
   * Part by part and descriptor by descriptor, so that a step costs the same however deep it is,
   * and a dangling link's target is made *inside* too. Every step is one name in a folder that is
   * open, which the kernel is not to leave. `..` and absolute links are followed on the list of
   * names that led there, which holds no link.
   */
  async #make(path: string, last: 'directory' | 'file'): Promise<string> {
    const walk = new Walk(this.#root)
    const todo = partsOf(path)
    let links = 0
    try {
      for (let part = todo.pop(); part !== undefined; part = todo.pop()) {
        await this.#step(path)
        if (part === '..') {
          walk.up()
          continue
        }
        if (walk.length + 1 + Buffer.byteLength(part) >= MAX_PATH)
          throw new StrataError(
            'launch_failed',
            `the path ${JSON.stringify(path.slice(0, 200))} leads to one of more than ${MAX_PATH - 1} bytes`,
          )
        const isLast = todo.length === 0
        const found = walk.look(part)
        if (found === 'link') {
          if (++links > MAX_LINKS)
            throw new StrataError('launch_failed', `${JSON.stringify(path.slice(0, 200))} has too many links`)
          const target = walk.readLink(part)
          if (target.startsWith('/')) walk.top()
          todo.push(...partsOf(target))
          continue
        }
        if (found === 'absent') {
          if (isLast && last === 'file') walk.makeFile(part)
          else walk.makeFolder(part)
        } else if (found !== (isLast ? last : 'directory')) {
          throw new StrataError(
            'launch_failed',
            `the container's ${walk.path}/${part} is ${found === 'directory' ? 'a folder' : 'not a folder'}, which ${path} cannot be`,
          )
        }
        walk.enter(part)
      }
      return walk.path || '/'
    } catch (error) {
      throw this.#refuse(path, error)
    } finally {
      walk.close()
    }
  }

  /** Counts a step of any path, and lets others have the thread every few of them. */
  async #step(path: string): Promise<void> {
    this.#steps++
    if (this.#steps > MAX_STEPS)
      throw new StrataError(
        'launch_failed',
        `the paths of the container take more than ${MAX_STEPS} steps; the last one is ${JSON.stringify(path.slice(0, 200))}`,
      )
    if (this.#steps % SLICE === 0) await setImmediate()
  }

  #open(path: string, flags: number): number {
    return openat2(this.#root, path, flags, INSIDE)
  }

  #refuse(path: string, error: unknown): StrataError {
    if (error instanceof StrataError) return error
    return new StrataError(
      'launch_failed',
      `cannot use ${JSON.stringify(path.slice(0, 200))} in the container's root: ${String(codeOf(error) ?? error)}`,
      { cause: error },
    )
  }
}

/** The names of a path, the first one last. */
function partsOf(path: string): string[] {
  return path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .reverse()
}

/** A folder inside the root, open, and the names that lead to it. */
class Walk {
  readonly #at: string[] = []
  /** The folder; `undefined` when it has to be opened anew, from the root. */
  #folder: number | undefined
  /** Bytes of `path`. */
  length = 0

  constructor(private readonly root: number) {}

  get path(): string {
    return this.#at.map((part) => `/${part}`).join('')
  }

  look(part: string): Kind {
    return kindAt(this.#open(), part)
  }

  /**
   * Names are bytes, but where a path leads is told to the runtime in JSON, which holds text alone.
   */
  readLink(part: string): string {
    const target = readlinkSync(`/proc/self/fd/${this.#open()}/${part}`, { encoding: 'buffer' })
    const name = `${this.path}/${part}`
    if (!isUtf8(target))
      throw new StrataError('launch_failed', `the container's ${name} is a link to a name that is not UTF-8`)
    return target.toString()
  }

  makeFolder(part: string): void {
    mkdirat(this.#open(), part, 0o755)
  }

  makeFile(part: string): void {
    closeSync(openat2(this.#open(), part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, INSIDE, 0o644))
  }

  makeLink(part: string, target: string): void {
    symlinkSync(target, `/proc/self/fd/${this.#open()}/${part}`)
  }

  /** A folder that is there; of a file, which is the last of a path, the name is kept. */
  enter(part: string): void {
    const next = openat2(this.#open(), part, O_PATH | O_NOFOLLOW, INSIDE)
    this.close()
    this.#folder = next
    this.#at.push(part)
    this.length += 1 + Buffer.byteLength(part)
  }

  up(): void {
    const part = this.#at.pop()
    if (part === undefined) return
    this.length -= 1 + Buffer.byteLength(part)
    this.close()
  }

  top(): void {
    this.#at.length = this.length = 0
    this.close()
  }

  close(): void {
    if (this.#folder !== undefined) closeSync(this.#folder)
    this.#folder = undefined
  }

  #open(): number {
    this.#folder ??= openat2(this.root, this.path || '/', O_PATH | O_DIRECTORY, INSIDE)
    return this.#folder
  }
}

type Kind = 'absent' | 'directory' | 'file' | 'link' | 'other'

function kindAt(folder: number, path: string): Kind {
  let fd: number
  try {
    fd = openat2(folder, path, O_PATH | O_NOFOLLOW, INSIDE)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return 'absent'
    throw error
  }
  try {
    const stat = fstatSync(fd)
    return stat.isDirectory() ? 'directory' : stat.isFile() ? 'file' : stat.isSymbolicLink() ? 'link' : 'other'
  } finally {
    closeSync(fd)
  }
}
