import { ENTRY, TarEntry, type EntryType } from '@strata/archive'
import { IndexBuilder } from '../index/index-builder.js'
import type { LayerIndex } from '../index/layer-index.js'

/**
 * An entry of a made-up layer. A file of `size` bytes gets the next free place in a made-up tar.
 */
export interface Given extends Partial<Omit<TarEntry, 'path' | 'link' | 'type' | 'xattrs'>> {
  readonly path: string | Buffer
  readonly type?: keyof typeof ENTRY
  /** Of links. (`link` is a method of strings, which an entry may also be.) */
  readonly target?: string | Buffer
}

/**
 * The index of a tar with these entries, in this order. A text alone is an empty file, or a
 * directory if it ends with a slash.
 */
export function layerOf(...given: readonly (Given | string)[]): LayerIndex {
  const builder = new IndexBuilder()
  let offset = 0
  for (const item of given) {
    const each: Given =
      typeof item !== 'string' ? item : item.endsWith('/') ? { path: item, type: 'directory' } : { path: item }
    const entry = new TarEntry()
    offset += 512
    const type: EntryType = ENTRY[each.type ?? 'file']
    Object.assign(entry, {
      mode: type === ENTRY.directory ? 0o700 : 0o600,
      storedSize: each.size ?? 0,
      dataOffset: offset,
      ...each,
      path: Buffer.from(each.path),
      link: Buffer.from(each.target ?? ''),
      type,
    })
    offset += Math.ceil(entry.storedSize / 512) * 512
    builder.entry(entry)
    builder.entryEnd()
  }
  return builder.finish(offset + 1024)
}
