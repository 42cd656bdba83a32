export { readTree } from './rootfs-listing.js'
export { storeLayer } from './make-layers.js'
export { leftoversOf } from './leftovers.js'
export { describeSnapshotter } from './snapshotter-suite.js'
