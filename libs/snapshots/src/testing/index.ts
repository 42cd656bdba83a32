export { readTree } from './rootfs-listing.js'
export { storeLayer } from './make-layers.js'
export { leftoversOf } from './leftovers.js'
export { describeDriver } from './snapshotter-suite.js'
