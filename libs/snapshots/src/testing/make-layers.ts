import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { ENTRY, TarReader, type TarSink } from '@strata/archive'
import { openFixture, type FixtureName } from '@strata/archive/testing'
import { IndexBuilder } from '@strata/layers'
import { digestOf, hexOf, type DiffId } from '@strata/oci'
import type { LayerFiles } from '../snapshotter.js'

/** A tar's bytes as a layer's files in the folder, as an extractor leaves them. */
export function storeLayer(folder: string, tar: Buffer): LayerFiles {
  const diffId = digestOf(tar) as DiffId
  const builder = new IndexBuilder()
  const reader = new TarReader(builder)
  reader.write(tar)
  reader.end()
  const layer = { diffId, tar: join(folder, hexOf(diffId)), index: join(folder, `${hexOf(diffId)}.index`) }
  writeFileSync(layer.tar, tar, { mode: 0o444 })
  writeFileSync(layer.index, builder.finish(tar.length).encode())
  return layer
}

/** The layers of a fixture that is a docker archive with plain layers, lowest first. */
export async function storeFixture(folder: string, name: FixtureName): Promise<LayerFiles[]> {
  const archive = await buffer(openFixture(name))
  const files = new Map<string, Buffer>()
  const sink: TarSink = {
    entry: (entry) => {
      if (entry.type === ENTRY.file)
        files.set(entry.path.toString(), archive.subarray(entry.dataOffset, entry.dataOffset + entry.size))
      return false
    },
    data: () => undefined,
    entryEnd: () => undefined,
  }
  const reader = new TarReader(sink)
  reader.write(archive)
  reader.end()
  const [image] = JSON.parse(String(files.get('manifest.json'))) as { Layers: string[] }[]
  return image!.Layers.map((layer) => storeLayer(folder, files.get(layer)!))
}
