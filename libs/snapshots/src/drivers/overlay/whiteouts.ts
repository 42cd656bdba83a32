import { lsetxattr, mkdirat, mknodat } from '@strata/linux'
import { KIND, typeBits } from '@strata/layers'
import type { LayerForm } from '../../layers/apply-layers.js'
import { below } from '../../trees/tree.js'

const OPAQUE = Buffer.from('trusted.overlay.opaque')

/**
 * A layer as a folder for overlayfs (Documentation/filesystems/overlayfs.rst): a whiteout is a
 * character device 0/0, and an opaque directory has an extended attribute. The folder is new, so
 * `makeWay` has nothing to do.
 */
export const WHITEOUTS: LayerForm = {
  directory: (dirfd, name) => mkdirat(dirfd, name, 0o700),
  opaque: (dirfd, name) => lsetxattr(below(dirfd, name), OPAQUE, Buffer.from('y')),
  makeWay: () => undefined,
  whiteout: (dirfd, name) => mknodat(dirfd, name, typeBits(KIND.char), 0, 0),
}
