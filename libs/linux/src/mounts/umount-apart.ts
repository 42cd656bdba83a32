import { mountAt } from './mount-table.js'
import { umount } from './mount.js'
import { reap } from '../processes/reap.js'
import { posixSpawn } from '../processes/spawn.js'

/**
 * As `umount`, by a child process. For a file system whose end waits until what was written is on
 * disk (sync_filesystem(), from the kernel's generic_shutdown_super): that takes seconds while
 * others keep the disk busy, and the calling thread can do nothing meanwhile.
 * @param target absolute, without symbolic links
 */
export async function umountApart(target: string): Promise<void> {
  // Where no process can be made, and where it was refused: late is better than never, and the
  // kernel tells us why as it tells others. Nothing where another was quicker.
  if (!(await hasUnmounted(target)) && mountAt(target)) umount(target)
}

async function hasUnmounted(target: string): Promise<boolean> {
  let pid: number
  try {
    pid = posixSpawn({ file: '/bin/umount', argv: ['umount', target], env: {}, stdio: [null, null, null] })
  } catch {
    return false
  }
  return (await reap(pid)) === 0
}
