import { deleteTree } from '../../trees/delete-tree.js'
import type { Driver, DriverContext } from '../driver.js'
import { OverlayChildren } from '../shared/overlay-children.js'
import { ErofsRoots } from './erofs-roots.js'

/** EROFS images over the layers' tars: nothing is unpacked. Children are overlays. */
export function openErofs({ layout, variant, memory }: DriverContext): Driver {
  return {
    name: 'erofs',
    roots: new ErofsRoots(layout, variant === 'loop' ? 'loop' : 'file', memory),
    children: new OverlayChildren(),
    delete: deleteTree,
    close: () => Promise.resolve(),
  }
}
