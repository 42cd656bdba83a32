import { closeSync, fstatSync, openSync, readFileSync, statSync } from 'node:fs'
import { stackMemory } from '@strata/archive'
import { StrataError } from '@strata/base'
import { LayerIndex, type IndexMemory } from '@strata/layers'
import type { LayerFiles } from '../snapshotter.js'

/** A layer's open tar, and its index. The index says the size that the tar has. */
export interface OpenLayer {
  readonly tar: number
  readonly index: LayerIndex
}

/**
 * Runs the work while it holds memory for all indexes of the stack. Their sizes are read from the
 * file system, so no index is in memory before that.
 * @throws StrataError `layer_missing`, `limit_exceeded` for a stack that never fits, `cancelled`
 */
export async function withStackMemory<T>(
  memory: IndexMemory,
  layers: readonly LayerFiles[],
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const bytes = layers.reduce((sum, layer) => sum + present(layer, 'index', () => statSync(layer.index)).size, 0)
  const taken = await memory.take(stackMemory(bytes), `an image of ${layers.length} layers`, signal)
  try {
    return await work()
  } finally {
    taken[Symbol.dispose]()
  }
}

/**
 * Opens all layers for the work, and closes them afterwards.
 * @throws StrataError `layer_missing`, `corrupt`
 */
export function withLayers<T>(layers: readonly LayerFiles[], work: (open: readonly OpenLayer[]) => T): T {
  const open: OpenLayer[] = []
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
