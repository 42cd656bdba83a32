import type { HistoryView } from '@strata/api'
import type { HistoryStep, ImageLayer } from '@strata/images'
import { FLAG, KIND, type LayerIndex } from '@strata/layers'

/** What one layer holds, as a history shows it. */
export type LayerContents = Pick<NonNullable<HistoryView['steps'][number]['layer']>, 'entries' | 'files' | 'whiteouts'>

/**
 * The steps that made an image, each with its layer. Layers that no step tells of stand at the end.
 *
 * Steps and layers are in one order. A diffID may stand there twice, for a layer that is there
 * twice.
 */
export async function historySteps(
  layers: readonly ImageLayer[],
  history: readonly HistoryStep[],
  contentsOf: (layer: ImageLayer) => Promise<LayerContents>,
): Promise<HistoryView> {
  const told = history.filter(({ diffId }) => diffId !== undefined).length
  const untold = layers
    .slice(told)
    .map(({ diffId }): HistoryStep => ({ created: undefined, createdBy: '', comment: '', diffId }))
  const left = layers.values()
  const steps: HistoryView['steps'] = []
  for (const { created, createdBy, comment, diffId } of [...history, ...untold]) {
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
