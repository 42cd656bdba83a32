import { chmodSync, mkdirSync, utimesSync } from 'node:fs'
import { applyLayers } from '../../layers/apply-layers.js'
import { inPlace } from '../../layers/in-place.js'
import type { LayerFiles } from '../../snapshotter.js'
import { copyTree } from './copy-tree.js'

/** What the driver does in a thread. */
export const tasks = {
  /** Makes the folder with the whole tree of the stack. */
  root({ layers, folder }: { readonly layers: readonly LayerFiles[]; readonly folder: string }): void {
    const targets = layers.map((_, place) => ({ place, folder }))
    applyLayers(layers, targets, inPlace(`${folder}.aside`))
    if (layers.length > 0) return
    mkdirSync(folder)
    // The umask may have removed bits from the mode.
    chmodSync(folder, 0o755)
    utimesSync(folder, 0, 0)
  },
  copy: copyTree,
}
