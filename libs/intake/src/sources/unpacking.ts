import { detectArchiveCompression, type ArchiveCompression } from '@strata/archive'

/**
 * How a body that begins so is to be unpacked as it comes. One that is a layer (`whole`) stays
 * packed as it is, unless no layer may be (image-spec, layer.md): then the layer is what is inside.
 */
export function unpackingOf(head: Uint8Array, whole: boolean): ArchiveCompression {
  const compression = detectArchiveCompression(head)
  return whole && compression !== 'bzip2' && compression !== 'xz' ? 'none' : compression
}
