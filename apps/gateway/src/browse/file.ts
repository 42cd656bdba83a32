import type { ImageLayer } from '@strata/images'
import { filePieces, KIND, resolvePath, type FilePiece } from '@strata/layers'
import { StrataError } from '@strata/base'
import { hexOf } from '@strata/oci'
import type { LayerBytes } from './layer-bytes.js'
import type { OpenTree } from './trees.js'

/** The place of a file's bytes. The view that it was found in may be closed. */
export interface FoundFile {
  /** Undefined if the image has no layers. */
  readonly layer: ImageLayer | undefined
  readonly tarSize: number
  readonly size: number
  /** Equal only for equal bytes. */
  readonly etag: string
  readonly pieces: readonly FilePiece[]
}

const ZEROS = Buffer.alloc(256 * 1024)
const WHAT: Partial<Record<number, string>> = {
  [KIND.directory]: 'a folder',
  [KIND.char]: 'a device',
  [KIND.block]: 'a device',
  [KIND.fifo]: 'a FIFO',
  [KIND.lowerLink]: 'a link to a file of the layers below',
  [KIND.whiteout]: 'a whiteout',
}

/** @throws StrataError `not_found`; `bad_request` if `path` is no regular file */
export function findFile({ tree, layers }: Pick<OpenTree, 'tree' | 'layers'>, path: Buffer): FoundFile {
  const inode = tree.inode(resolvePath(tree, path))
  if (tree.kind(inode) !== KIND.file)
    throw new StrataError(
      'bad_request',
      `${JSON.stringify(path.toString())} is ${WHAT[tree.kind(inode)] ?? 'no file'}: it has no bytes`,
    )
  const size = tree.size(inode)
  const layer = layers[tree.layer(inode)]
  return {
    layer,
    tarSize: tree.layers[tree.layer(inode)]!.tarSize,
    size,
    etag: `${layer ? hexOf(layer.diffId) : ''}-${tree.entry(inode)}`,
    pieces: [...filePieces(tree, inode, { start: 0, end: size })],
  }
}

/** The file's bytes from `start` to `end`, exclusive. */
export async function* fileBytes(
  { layer, tarSize, pieces }: FoundFile,
  range: { readonly start: number; readonly end: number },
  bytes: Pick<LayerBytes, 'cursor'>,
): AsyncGenerator<Uint8Array> {
  const wanted = cut(pieces, range)
  const until = wanted.reduce((end, piece) => ('end' in piece ? Math.max(end, piece.end) : end), 0)
  await using cursor = layer && bytes.cursor(layer, { until, size: tarSize })
  for (const piece of wanted) {
    if ('end' in piece) yield* cursor!.take(piece.start, piece.end)
    else
      for (let left = piece.zeros; left > 0; left -= ZEROS.length) yield ZEROS.subarray(0, Math.min(left, ZEROS.length))
  }
}

/** The pieces of a file that give its bytes from `start` to `end`. */
function cut(
  pieces: readonly FilePiece[],
  { start, end }: { readonly start: number; readonly end: number },
): FilePiece[] {
  const found: FilePiece[] = []
  let at = 0
  for (const piece of pieces) {
    const length = 'end' in piece ? piece.end - piece.start : piece.zeros
    const [from, to] = [Math.max(0, start - at), Math.min(length, end - at)]
    at += length
    if (from < to)
      found.push('end' in piece ? { start: piece.start + from, end: piece.start + to } : { zeros: to - from })
  }
  return found
}
