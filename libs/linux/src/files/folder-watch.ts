import { closeSync } from 'node:fs'
import { bind, check, cString, lastErrno, systemError, type Path } from '../libc.js'

const inotifyInit = bind('inotify_init1', ['int'])
const inotifyAddWatch = bind('inotify_add_watch', ['int', 'ptr', 'uint'])
const inotifyRmWatch = bind('inotify_rm_watch', ['int', 'int'])
const readCall = bind('read', ['int', 'ptr', 'ulong'], 'long')
const IN_NONBLOCK = 0o4000
const IN_CLOEXEC = 0o2000000
const IN_MOVED_FROM = 0x40
const IN_MOVED_TO = 0x80
const IN_CREATE = 0x100
const IN_DELETE = 0x200
const IN_Q_OVERFLOW = 0x4000
const IN_IGNORED = 0x8000
const IN_ONLYDIR = 0x1000000
const IN_ISDIR = 0x40000000
const NAMES = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO
const EAGAIN = 11
/** wd, mask, cookie, len: four words before the name. */
const HEADER = 16

/** What happened to a name in a folder that is watched. */
export type FolderEvent =
  | { readonly kind: 'added' | 'gone'; readonly watch: number; readonly name: string; readonly isFolder: boolean }
  /** The folder was deleted or unmounted. No event of this watch follows. */
  | { readonly kind: 'ended'; readonly watch: number }
  /** The kernel's queue was full. Events of any watch may be missing. */
  | { readonly kind: 'lost' }

/**
 * The names that come and go in folders, by inotify(7).
 *
 * The kernel queues an event before the system call returns that made the change. So `read` gives
 * all changes of all processes whose calls have returned before it, whichever program made them.
 * The events of a change that is under way come with the next `read`.
 *
 * A watch belongs to the folder, not to its path, and keeps the folder's inode number from being
 * used again. If the folder is renamed, its watch goes with it.
 */
export class FolderWatch {
  readonly #fd = check(inotifyInit(IN_NONBLOCK | IN_CLOEXEC), 'inotify_init1')
  readonly #buffer = Buffer.alloc(64 * 1024)

  /**
   * Events of changes from now on are queued for `read`. A folder has one watch: a second call for
   * the same folder returns the same number. A link at the end of the path is followed.
   * @throws SystemError `ENOSPC`: the user has as many watches as the machine allows
   */
  add(folder: Path): number {
    return check(inotifyAddWatch(this.#fd, cString(folder), NAMES | IN_ONLYDIR), 'inotify_add_watch', String(folder))
  }

  /** Events that are queued already still come. Does nothing if the watch has ended. */
  release(watch: number): void {
    inotifyRmWatch(this.#fd, watch)
  }

  /** All events that are queued, in their order. Does not wait. */
  read(): FolderEvent[] {
    const events: FolderEvent[] = []
    for (;;) {
      const length = readCall(this.#fd, this.#buffer, this.#buffer.length)
      if (length < 0) {
        const errno = lastErrno()
        if (errno === EAGAIN) return events
        throw systemError(errno, 'read of inotify')
      }
      for (let at = 0; at < length;) {
        const end = at + HEADER + this.#buffer.readUInt32LE(at + 12)
        const event = eventOf(this.#buffer.subarray(at, end))
        if (event) events.push(event)
        at = end
      }
    }
  }

  close(): void {
    closeSync(this.#fd)
  }
}

function eventOf(bytes: Buffer): FolderEvent | undefined {
  const watch = bytes.readInt32LE(0)
  const mask = bytes.readUInt32LE(4)
  if (mask & IN_Q_OVERFLOW) return { kind: 'lost' }
  if (mask & IN_IGNORED) return { kind: 'ended', watch }
  if (!(mask & NAMES)) return undefined
  const name = bytes.toString('utf8', HEADER, bytes.indexOf(0, HEADER))
  const kind = mask & (IN_CREATE | IN_MOVED_TO) ? 'added' : 'gone'
  return { kind, watch, name, isFolder: (mask & IN_ISDIR) !== 0 }
}
