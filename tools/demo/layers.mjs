import { globSync, readFileSync } from 'node:fs'
import { hexOf } from '@strata/oci'
import { FLAG, KIND, LayerIndex } from '@strata/layers'
import { safe } from './terminal.mjs'

/** The entries of a layer from its index, an object of the store in `data`: how many, and some of them as `ls` would mark them. */
export function layerEntries(data, diffId, limit = 6) {
  const [file] = globSync(`**/index/v1/${hexOf(diffId)}`, { cwd: data })
  if (!file) return undefined
  const index = LayerIndex.decode(readFileSync(`${data}/${file}`))
  const count = index.count - 1
  const picked = []
  for (let entry = 1; entry <= count && picked.length < limit; entry++) {
    if ((index.flags(entry) & FLAG.implied) === 0 && (count <= limit || index.kind(entry) !== KIND.directory)) picked.push(line(index, entry))
  }
  return { count, picked, more: count - picked.length }
}

function line(index, entry) {
  const path = `/${safe(index.path(entry))}`
  switch (index.kind(entry)) {
    case KIND.directory: return `${path}/`
    case KIND.symlink: return `${path} → ${safe(index.text(entry))}`
    case KIND.whiteout: return `${path} (removed)`
    default: return path
  }
}
