export { readTree } from './rootfs-listing.js'
export { storeFixture, storeLayer } from './make-layers.js'
export { leftoversOf } from './leftovers.js'
export { describeSnapshotter, type Departure, type SnapshotterFactory } from './snapshotter-suite.js'
