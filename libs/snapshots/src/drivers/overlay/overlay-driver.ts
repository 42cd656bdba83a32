import { deleteTree } from '../../trees/delete-tree.js'
import type { Driver, DriverContext } from '../driver.js'
import { OverlayChildren } from '../shared/overlay-children.js'
import { OverlayRoots } from './overlay-roots.js'

/** Layers unpacked into folders, which overlayfs stacks. Children are overlays. */
export function openOverlay({ layout, memory }: DriverContext): Driver {
  const roots = new OverlayRoots(layout, memory)
  return {
    name: 'overlay',
    roots,
    children: new OverlayChildren(),
    delete: deleteTree,
    close: () => roots.settled(),
  }
}
