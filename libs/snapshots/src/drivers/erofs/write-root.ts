import { createHash } from 'node:crypto'
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { ErofsError, writeErofs, type ErofsSource } from '@strata/erofs'
import { mergeLayers } from '@strata/layers'
import { StrataError } from '@strata/base'
import { type ChainId } from '@strata/oci'
import { withLayers } from '../../layers/layer-files.js'
import type { LayerFiles } from '../../snapshotter.js'
import { throwIfStopped } from '../../threads/stop.js'
import { mergedSource } from './merged-source.js'
import { planSide, writeSide } from './side.js'

/** Names of the files in a root's folder. */
export const METADATA = 'metadata.erofs'
export const SIDE = 'side'

export interface ErofsRequest {
  readonly layers: readonly LayerFiles[]
  readonly chainId: ChainId
  /** The folder to make. */
  readonly folder: string
}
/** What `writeErofsRoot` has put into the folder. */
export interface ErofsRoot {
  /** The places (lowest 0) of the layers whose tars hold data, in the order of the device slots. */
  readonly devices: readonly number[]
  /** Bytes of the side file, the last device; 0 = there is none. */
  readonly side: number
  /** sha256 of the metadata, hex. */
  readonly sha256: string
}

/**
 * Writes one EROFS for the whole stack into a new folder: its metadata, and a side file if one is
 * needed. Reads the indexes completely, and of the tars only the data that go into the side file.
 */
export function writeErofsRoot({ layers, chainId, folder }: ErofsRequest): ErofsRoot {
  return withLayers(layers, (open) => {
    const tree = mergeLayers(open.map(({ index }) => index))
    const side = planSide(tree)
    const { source, deviceLayers } = mergedSource(tree, side, chainId)
    mkdirSync(folder, { mode: 0o700 })
    const sha256 = writeMetadata(join(folder, METADATA), source)
    if (side.size > 0)
      writeSide(
        join(folder, SIDE),
        side,
        tree,
        open.map(({ tar }) => tar),
      )
    return { devices: deviceLayers, side: side.size, sha256 }
  })
}

function writeMetadata(path: string, source: ErofsSource): string {
  const hash = createHash('sha256')
  const fd = openSync(path, 'wx', 0o400)
  try {
    writeErofs(source, (chunk) => {
      throwIfStopped()
      hash.update(chunk)
      for (let written = 0; written < chunk.length;) written += writeSync(fd, chunk, written)
    })
  } catch (error) {
    if (!(error instanceof ErofsError)) throw error
    throw new StrataError(
      error.code === 'EFBIG' ? 'limit_exceeded' : 'layer_invalid',
      `the layers do not fit an EROFS: ${error.message}`,
      { cause: error },
    )
  } finally {
    closeSync(fd)
  }
  return hash.digest('hex')
}
