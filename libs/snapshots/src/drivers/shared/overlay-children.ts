import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { mountTable } from '@strata/linux'
import type { Mount } from '../../mounts/mounts.js'
import { userOfFolder } from '../../mounts/users.js'
import type { SnapshotKind, Usage } from '../../snapshot.js'
import { threadFor } from '../../threads/run-worker.js'
import type { tasks } from '../../trees/tasks.js'
import type { Child, Children } from '../driver.js'
import { copyAttributes } from './copy-attributes.js'
import { OVERLAY_OPTIONS } from './overlay-options.js'

const inThread = threadFor<typeof tasks>('trees')

/**
 * Children by overlayfs, on a root of any driver. The folder of a writable child holds `upper` and
 * `work`. The folder of a view holds `lower`, an empty folder: its path in the mount table shows
 * whose mount it is.
 */
export class OverlayChildren implements Children {
  readonly form = 'overlay'

  make(folder: string, { kind, root }: Child): Promise<void> {
    const top = join(folder, topOf(kind))
    mkdirSync(top, { mode: 0o755 })
    if (kind === 'writable') mkdirSync(join(folder, 'work'), { mode: 0o700 })
    // The merged root directory shows the attributes of the topmost folder, so these must be the
    // image's.
    copyAttributes(root, top)
    return Promise.resolve()
  }

  mounts(folder: string, { kind, root, isVolatile }: Child): Mount[] {
    const work = join(folder, 'work')
    // The kernel puts a mark here, and refuses to mount a child that has one: it cannot know
    // whether the machine stopped in between. For a volatile child that does not matter.
    if (isVolatile) rmSync(join(work, 'work', 'incompat', 'volatile'), { recursive: true, force: true })
    const own =
      kind === 'view'
        ? ['ro', `lowerdir+=${join(folder, 'lower')}`, `lowerdir+=${root}`]
        : [`lowerdir+=${root}`, `upperdir=${join(folder, 'upper')}`, `workdir=${work}`]
    const options = [...own, ...OVERLAY_OPTIONS, ...(isVolatile ? ['volatile'] : [])]
    return [{ type: 'overlay', source: 'overlay', options }]
  }

  usage(folder: string, kind: SnapshotKind): Promise<Usage> {
    return inThread('usage', join(folder, topOf(kind)))
  }

  userOf(folder: string): string | undefined {
    return userOfFolder(folder, mountTable())?.mountPoint
  }
}

function topOf(kind: SnapshotKind): string {
  return kind === 'view' ? 'lower' : 'upper'
}
