import { globSync, readFileSync } from 'node:fs'
import { hexOf } from '@strata/oci'
import { FLAG, KIND, LayerIndex } from '@strata/layers'
import { safe } from './terminal.mjs'

/**
 * The entries of a layer from its index, an object of the store in `data`: how many, and some of
 * them as `ls` would mark them.
 */
export function layerEntries(data, diffId, limit = 6) {
  const [file] = globSync(`**/index/v1/${hexOf(diffId)}`, { cwd: data })
  if (!file) return undefined
  const index = LayerIndex.decode(readFileSync(`${data}/${file}`))
  const entries = []
  // Entry 0 is the root; a folder that the tar only implies has no entry of its own there.
  for (let entry = 1; entry < index.count; entry++) if ((index.flags(entry) & FLAG.implied) === 0) entries.push(entry)
  const shown =
    entries.length <= limit ? entries : entries.filter((entry) => index.kind(entry) !== KIND.directory).slice(0, limit)
  return {
    count: entries.length,
    picked: shown.map((entry) => line(index, entry)),
    more: entries.length - shown.length,
  }
}

function line(index, entry) {
  const path = `/${safe(index.path(entry))}`
  switch (index.kind(entry)) {
    case KIND.directory:
      return `${path}/`
    case KIND.symlink:
      return `${path} → ${safe(index.text(entry))}`
    case KIND.whiteout:
      return `${path} (removed)`
    default:
      return path
  }
}
