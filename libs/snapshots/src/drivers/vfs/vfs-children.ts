import { join } from 'node:path'
import { mountTable } from '@strata/linux'
import type { Mount } from '../../mounts/mounts.js'
import { userOfFolder } from '../../mounts/users.js'
import type { Usage } from '../../snapshot.js'
import { threadFor } from '../../threads/run-worker.js'
import type { tasks as treeTasks } from '../../trees/tasks.js'
import type { Child, Children } from '../driver.js'
import type { tasks } from './tasks.js'

const inThread = threadFor<typeof tasks>('vfs')
const inTreeThread = threadFor<typeof treeTasks>('trees')

/**
 * Each child is a folder `fs`, a copy of its root. A view is a copy too, so that the mount table
 * can show whose mount it is.
 */
export class VfsChildren implements Children {
  readonly form = 'vfs'

  async make(folder: string, { root, isVolatile }: Child): Promise<void> {
    // After a loss of power nothing shows whether a copy is complete. So it is on disk before it
    // gets its name.
    await inThread('copy', { from: root, to: join(folder, 'fs'), isSynced: !isVolatile })
  }

  mounts(folder: string, { kind }: Child): Mount[] {
    return [{ type: 'bind', source: join(folder, 'fs'), options: kind === 'view' ? ['ro'] : [] }]
  }

  usage(folder: string): Promise<Usage> {
    return inTreeThread('usage', join(folder, 'fs'))
  }

  userOf(folder: string): string | undefined {
    return userOfFolder(folder, mountTable())?.mountPoint
  }
}
