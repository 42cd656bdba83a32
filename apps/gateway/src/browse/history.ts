import type { HistoryView } from '@strata/api'
import type { HistoryStep, ImageLayer } from '@strata/images'
import { FLAG, KIND, type LayerIndex } from '@strata/layers'

/** The contents of one layer, in the form of a history. */
export type LayerContents = Pick<NonNullable<HistoryView['steps'][number]['layer']>, 'entries' | 'files' | 'whiteouts'>

/**
 * The steps that made an image, each with its layer. Layers for which no step is recorded come
 * last.
 *
 * Steps and layers have one order. An image that has a layer twice has its diffID twice.
 */
export async function historySteps(
  layers: readonly ImageLayer[],
  history: readonly HistoryStep[],
  contentsOf: (layer: ImageLayer) => Promise<LayerContents>,
): Promise<HistoryView> {
  const recorded = history.filter(({ diffId }) => diffId !== undefined).length
  const unrecorded = layers
    .slice(recorded)
    .map(({ diffId }): HistoryStep => ({ created: undefined, createdBy: '', comment: '', diffId }))
  const left = layers.values()
  const steps: HistoryView['steps'] = []
  for (const { created, createdBy, comment, diffId } of [...history, ...unrecorded]) {
    const layer = diffId && left.next().value
    steps.push({
      ...(created === undefined ? {} : { created }),
      createdBy,
      comment,
      ...(layer
        ? { layer: { digest: layer.digest, diffId: layer.diffId, size: layer.size, ...(await contentsOf(layer)) } }
        : {}),
    })
  }
  return { steps }
}

/** Counts what one layer holds: entries without the root, files with their bytes, and whiteouts. */
export function layerContents(index: LayerIndex): LayerContents {
  const files = { count: 0, bytes: 0 }
  let whiteouts = 0
  for (let entry = 0; entry < index.count; entry++) {
    const kind = index.kind(entry)
    if (kind === KIND.whiteout || (index.flags(entry) & (FLAG.whiteout | FLAG.opaque)) !== 0) whiteouts++
    if (kind !== KIND.file) continue
    files.count++
    files.bytes += index.size(entry)
  }
  return { entries: index.count - 1, files, whiteouts }
}
