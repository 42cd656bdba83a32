import { closeSync, fstatSync, openSync, readFileSync, statSync } from 'node:fs'
import { stackMemory } from '@strata/archive'
import { StrataError } from '@strata/base'
import { LayerIndex, type IndexMemory } from '@strata/layers'
import type { LayerFiles } from '../snapshotter.js'

/** A layer's tar, open, and its index, which were found to be of one size. */
export interface OpenLayer {
  readonly tar: number
  readonly index: LayerIndex
}

/**
 * Does the work while memory for all indexes of the stack is taken. Their sizes are read from the
 * file system, so nothing of them is in memory before. Errors: `layer_missing`, `limit_exceeded`
 * for a stack that never has room, `cancelled`.
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

/** Opens them all for the work, and closes them after it. Errors: `layer_missing`, `corrupt`. */
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
