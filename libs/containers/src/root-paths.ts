import { closeSync, fstatSync, readSync, readlinkSync, constants } from 'node:fs'
import { mkdirat, O_PATH, openat2, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS } from '@strata/linux'
import { StrataError } from '@strata/oci'

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NONBLOCK, O_NOFOLLOW, O_DIRECTORY } = constants
/** As the kernel's own limit on a path. */
const MAX_LINKS = 40
const MAX_PARTS = 4096

/** passwd and group of an image: a real one has a few KiB. */
export const MAX_SMALL_FILE = 1024 * 1024

const codeOf = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : undefined)

/**
 * Paths inside a root file system that nobody may trust. The kernel resolves each within the root (openat2, RESOLVE_IN_ROOT): links,
 * `..` and absolute targets end inside, whatever the image holds; nothing is ever joined to the root as text. Close it after use.
 */
export class RootPaths {
  readonly #root: number

  constructor(root: string) {
    this.#root = openat2(root, '.', O_PATH | O_DIRECTORY, 0)
  }

  close(): void {
    closeSync(this.#root)
  }

  /** What the runtime mounts over must be a folder or absent: runc follows a link there out of the root (CVE-2026-41579 and its kind). */
  requireKernelFolders(): void {
    for (const name of ['/dev', '/proc', '/sys']) {
      const kind = this.#kind(name)
      if (kind !== 'absent' && kind !== 'directory') throw new StrataError('launch_failed', `the image's ${name} is ${kind === 'link' ? 'a symbolic link' : 'a file'}, not a folder: such an image is not run`)
    }
  }

  /** A regular file of at most 1 MiB as text; '' if there is none. Anything else there is refused: it may be made to block, or to be read for ever. */
  readSmall(path: string): string {
    try {
      const at = this.#open(path, O_PATH)
      try {
        if (!fstatSync(at).isFile()) throw new StrataError('launch_failed', `the image's ${path} is not a regular file`)
      } finally {
        closeSync(at)
      }
      const fd = this.#open(path, O_RDONLY | O_NONBLOCK)
      try {
        // One byte more than allowed: size in stat may lie (an overlay copy-up, a growing file).
        const bytes = Buffer.alloc(Math.min(fstatSync(fd).size, MAX_SMALL_FILE) + 1)
        const length = readSync(fd, bytes, 0, bytes.length, 0)
        if (length > MAX_SMALL_FILE) throw new StrataError('launch_failed', `the image's ${path} has more than ${MAX_SMALL_FILE} bytes`)
        return bytes.toString('utf8', 0, length)
      } finally {
        closeSync(fd)
      }
    } catch (error) {
      if (['ENOENT', 'ENOTDIR'].includes(codeOf(error) as string)) return ''
      throw this.#refuse(path, error)
    }
  }

  /** Makes a folder (0755, root's) with all that is missing above it. Answers its path without links: what the process will find there. */
  makeFolder(path: string): string {
    return this.#make(path, 'directory')
  }

  /** Makes an empty file (0644) as a target for a bind mount, unless a regular file is there. Answers its path without links. */
  makeFile(path: string): string {
    return this.#make(path, 'file')
  }

  /**
   * Part by part, so that a dangling link's target is made *inside* too. `at` holds no link and no `..` at any time, and every
   * step is again resolved by the kernel within the root.
   */
  #make(path: string, last: 'directory' | 'file'): string {
    const todo = path.split('/').reverse()
    const at: string[] = []
    let links = 0
    try {
      for (let part = todo.pop(); part !== undefined; part = todo.pop()) {
        if (part === '' || part === '.') continue
        if (part === '..') {
          at.pop()
          continue
        }
        if (at.length >= MAX_PARTS) throw new StrataError('launch_failed', `the path ${JSON.stringify(path.slice(0, 200))} is too deep`)
        const parent = this.#open(`/${at.join('/')}`, O_PATH | O_DIRECTORY)
        try {
          const isLast = todo.every((rest) => rest === '' || rest === '.')
          const target = `/${[...at, part].join('/')}`
          const kind = this.#kind(target)
          if (kind === 'link') {
            if (++links > MAX_LINKS) throw new StrataError('launch_failed', `${JSON.stringify(path.slice(0, 200))} has too many links`)
            const text = readlinkSync(`/proc/self/fd/${parent}/${part}`)
            if (text.startsWith('/')) at.length = 0
            todo.push(...text.split('/').reverse())
            continue
          }
          if (kind === 'absent') {
            if (isLast && last === 'file') closeSync(openat2(parent, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, 0o644))
            else mkdirat(parent, part, 0o755)
          } else if (kind !== (isLast ? last : 'directory')) throw new StrataError('launch_failed', `the image's ${target} is ${kind === 'directory' ? 'a folder' : 'not a folder'}, which ${path} cannot be`)
          at.push(part)
        } finally {
          closeSync(parent)
        }
      }
    } catch (error) {
      throw this.#refuse(path, error)
    }
    return `/${at.join('/')}`
  }

  #kind(path: string): 'absent' | 'directory' | 'file' | 'link' | 'other' {
    let fd: number
    try {
      fd = this.#open(path, O_PATH | O_NOFOLLOW)
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

  #open(path: string, flags: number): number {
    return openat2(this.#root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
  }

  #refuse(path: string, error: unknown): StrataError {
    if (error instanceof StrataError) return error
    return new StrataError('launch_failed', `cannot use ${JSON.stringify(path.slice(0, 200))} in the image: ${String(codeOf(error) ?? error)}`, { cause: error })
  }
}
