import { closeSync, fstatSync, openSync, readFileSync, statSync } from 'node:fs'
import { StrataError } from '@strata/oci'
import { LayerIndex } from '@strata/layers'
import type { LayerFiles } from './snapshotter.js'

/** A layer's tar, open, and its index, which were found to be of one size. */
export interface OpenLayer {
  readonly tar: number
  readonly index: LayerIndex
}

/**
 * Bytes of the indexes of one image, which are in memory together: four of the largest that a layer
 * has by default.
 */
const MAX_STACK_BYTES = 2 ** 31

/**
 * Opens them all for the work, and closes them after it. Errors: `layer_missing`, `corrupt`,
 * `limit_exceeded`.
 */
export function withLayers<T>(layers: readonly LayerFiles[], work: (open: readonly OpenLayer[]) => T): T {
  const open: OpenLayer[] = []
  const bytes = layers.reduce((sum, layer) => sum + present(layer, 'index', () => statSync(layer.index)).size, 0)
  if (bytes > MAX_STACK_BYTES)
    throw new StrataError(
      'limit_exceeded',
      `the indexes of the image's ${layers.length} layers have ${bytes} bytes together; the limit is ${MAX_STACK_BYTES}`,
    )
  try {
    for (const layer of layers) {
      const index = LayerIndex.decode(present(layer, 'index', () => readFileSync(layer.index)))
      const tar = present(layer, 'tar', () => openSync(layer.tar, 'r'))
      open.push({ tar, index })
      const { size } = fstatSync(tar)
      if (size !== index.tarSize)
        throw new StrataError(
          'corrupt',
          `layer ${layer.diffId}: its tar has ${size} bytes, its index speaks of ${index.tarSize}`,
        )
    }
    return work(open)
  } finally {
    for (const { tar } of open) closeSync(tar)
  }
}

function present<T>(layer: LayerFiles, what: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new StrataError('layer_missing', `layer ${layer.diffId}: its ${what} is not on this node`, { cause: error })
  }
}
