import { applyLayers, type Target } from '../../layers/apply-layers.js'
import type { LayerFiles } from '../../snapshotter.js'
import { markSynced } from './synced.js'
import { WHITEOUTS } from './whiteouts.js'

/** What the driver does in a thread. */
export const tasks = {
  /** Unpacks those layers of a stack that have a target, each into a new folder. */
  unpack: ({ layers, targets }: { readonly layers: readonly LayerFiles[]; readonly targets: readonly Target[] }) =>
    applyLayers(layers, targets, WHITEOUTS),
  synced: markSynced,
}
