import { mountAt } from './mount-table.js'
import { umount } from './mount.js'
import { reap } from './reap.js'
import { posixSpawn } from './spawn.js'

/**
 * As `umount`, by a child process. For a file system whose end waits until what was written is on disk (sync_filesystem(), from the kernel's
 * generic_shutdown_super): that takes seconds while others keep the disk busy, and the calling thread can do nothing meanwhile.
 * @param target absolute, without symbolic links
 */
export async function umountApart(target: string): Promise<void> {
  const code = await reap(posixSpawn({ file: '/bin/umount', argv: ['umount', target], env: {}, stdio: [null, null, null] }))
  // Why it was refused, the kernel tells us as it tells others. Nothing where another was quicker.
  if (code !== 0 && mountAt(target)) umount(target)
}
