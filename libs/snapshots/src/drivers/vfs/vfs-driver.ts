import { deleteTree } from '../../trees/delete-tree.js'
import type { Driver, DriverContext } from '../driver.js'
import { VfsChildren } from './vfs-children.js'
import { VfsRoots } from './vfs-roots.js'

/** Plain copies: needs nothing of the kernel but bind mounts, and works on every file system. */
export function openVfs({ layout, memory }: DriverContext): Driver {
  return {
    name: 'vfs',
    roots: new VfsRoots(layout, memory),
    children: new VfsChildren(),
    delete: deleteTree,
    close: () => Promise.resolve(),
  }
}
