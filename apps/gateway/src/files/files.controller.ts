import { Controller, Get, Param, Query, Req, Res } from '@nestjs/common'
import { ApiOperation, ApiResponse, ApiTags } from '@nestjs/swagger'
import {
  diffQuery,
  diffSchema,
  fileListSchema,
  fileQuery,
  filesQuery,
  historySchema,
  type DiffView,
  type FileListView,
  type HistoryView,
} from '@strata/api'
import { Images, type HistoryStep, type ImageLayer } from '@strata/images'
import { filePieces, FLAG, KIND, resolvePath, type FilePiece, type LayerIndex, type MergedTree } from '@strata/layers'
import { StrataError } from '@strata/base'
import { hexOf } from '@strata/oci'
import { closedSignal, letClientPause } from '@strata/platform'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { answersProblems } from '../problems.js'
import { sendRanged } from '../ranged-body.js'
import { difference } from './difference.js'
import { fileView } from './file-views.js'
import { LayerBytes } from './layer-bytes.js'
import { bytesOfParameter, textOf } from './name-text.js'
import { Trees, type OpenTree } from './trees.js'

const ref = z.string().min(1).max(512)

/**
 * What is in images, without a container and without extraction: from their layers' indexes, and a
 * file's bytes from the one blob that holds them.
 */
@ApiTags('images')
@Controller('v1/images')
export class FilesController {
  constructor(
    private readonly images: Images,
    private readonly trees: Trees,
    private readonly bytes: LayerBytes,
  ) {}

  @Get(':ref/files')
  @ApiOperation({ summary: 'What a folder of the image, or of one of its layers, holds' })
  @ApiResponse({ status: 200, standardSchema: fileListSchema })
  @answersProblems('image_not_found', 'image_ambiguous', 'not_found', 'bad_request', 'limit_exceeded', 'corrupt')
  async files(
    @Param('ref', { schema: ref }) name: string,
    @Query({ schema: filesQuery }) query: z.infer<typeof filesQuery>,
    @Req() { raw }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<FileListView> {
    using open = await this.trees.open(name, query.layer, closedSignal(reply.raw))
    const { tree, layers } = open
    const node = resolvePath(tree, bytesOfParameter(raw.url ?? '', 'path'))
    const show = (each: number) => fileView(tree, layers, each, query.layer !== undefined)
    const first = tree.firstChild(node)
    const total = tree.firstChild(node + 1) - first
    const most = Math.min(total, query.offset + query.limit)
    const files: FileListView['files'] = []
    let end = query.offset
    for (let xattrs = 0; end < most && xattrs <= MAX_PAGE_XATTRS; end++) {
      files.push(show(first + end))
      xattrs += xattrBytes(tree, tree.inode(first + end))
    }
    return {
      ...textOf('path', Buffer.concat([SLASH, tree.path(node)])),
      self: show(node),
      total,
      files,
      ...(end < total ? { next: end } : {}),
    }
  }

  @Get(':ref/file')
  @ApiOperation({ summary: 'The bytes of a file' })
  @ApiResponse({
    status: 200,
    content: { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } },
  })
  @ApiResponse({ status: 206, description: 'the part that Range asks for' })
  @ApiResponse({ status: 416, description: 'no such part' })
  @answersProblems('image_not_found', 'image_ambiguous', 'not_found', 'bad_request', 'limit_exceeded', 'corrupt')
  async file(
    @Param('ref', { schema: ref }) name: string,
    @Query({ schema: fileQuery }) query: z.infer<typeof fileQuery>,
    @Req() { raw }: FastifyRequest,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    const [path, gone] = [bytesOfParameter(raw.url ?? '', 'path'), closedSignal(reply.raw)]
    await this.images.reading(name, async () => {
      const found = await this.#find(name, query.layer, path, gone)
      // `strata cat` into a pager; this holds one blob open.
      letClientPause(raw)
      await sendRanged(raw, reply, {
        ...found,
        type: 'application/octet-stream',
        bytes: (range) => this.#bytesOf(found, cut(found.pieces, range)),
      })
    })
  }

  @Get(':ref/diff')
  @ApiOperation({ summary: 'What of the files changes from this image to another, or what one layer changed' })
  @ApiResponse({ status: 200, standardSchema: diffSchema })
  @answersProblems('image_not_found', 'image_ambiguous', 'not_found', 'bad_request', 'limit_exceeded', 'corrupt')
  async diff(
    @Param('ref', { schema: ref }) name: string,
    @Query({ schema: diffQuery }) query: z.infer<typeof diffQuery>,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<DiffView> {
    const gone = closedSignal(reply.raw)
    const { other, layer } = query
    if ((other === undefined) === (layer === undefined))
      throw new StrataError(
        'bad_request',
        'a difference is to another image (other) or of one layer (layer): give one of them',
      )
    if (layer !== undefined) {
      const { below, upTo } = await this.trees.openAround(name, layer, gone)
      using before = below
      using after = upTo
      return await difference(before.tree, after.tree, query, gone)
    }
    using before = await this.trees.open(name, undefined, gone)
    using after = await this.trees.open(other!, undefined, gone)
    return await difference(before.tree, after.tree, query, gone)
  }

  @Get(':ref/history')
  @ApiOperation({ summary: 'The steps that made the image, and what each layer holds' })
  @ApiResponse({ status: 200, standardSchema: historySchema })
  @answersProblems('image_not_found', 'image_ambiguous', 'limit_exceeded', 'corrupt')
  async history(
    @Param('ref', { schema: ref }) name: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<HistoryView> {
    const gone = closedSignal(reply.raw)
    const { layerList, history } = await this.images.layers(name)
    // A diffID may stand there twice, for a layer that is there twice; steps and layers are in one
    // order.
    const told = history.filter(({ diffId }) => diffId !== undefined).length
    const untold = layerList
      .slice(told)
      .map(({ diffId }): HistoryStep => ({ created: undefined, createdBy: '', comment: '', diffId }))
    const layers = layerList.values()
    const steps: HistoryView['steps'] = []
    for (const { created, createdBy, comment, diffId } of [...history, ...untold]) {
      const layer = diffId && layers.next().value
      steps.push({
        ...(created === undefined ? {} : { created }),
        createdBy,
        comment,
        ...(layer ? { layer: await this.#contentsOf(layer, gone) } : {}),
      })
    }
    return { steps }
  }

  async #contentsOf(layer: ImageLayer, gone: AbortSignal): Promise<NonNullable<HistoryView['steps'][number]['layer']>> {
    const { digest, diffId, size } = layer
    using open = await this.trees.alone(layer, gone)
    return { digest, diffId, size, ...countsOf(open.tree.layers[0]!) }
  }

  /** The view is let go of before a byte is sent: a slow reader does not hold it. */
  async #find(name: string, layer: string | undefined, path: Buffer, gone: AbortSignal): Promise<FoundFile> {
    using open: OpenTree = await this.trees.open(name, layer, gone)
    const { tree, layers } = open
    const inode = tree.inode(resolvePath(tree, path))
    if (tree.kind(inode) !== KIND.file)
      throw new StrataError(
        'bad_request',
        `${JSON.stringify(path.toString())} is ${WHAT[tree.kind(inode)] ?? 'no file'}: it has no bytes`,
      )
    const size = tree.size(inode)
    const from = layers[tree.layer(inode)]
    return {
      layer: from,
      tarSize: tree.layers[tree.layer(inode)]!.tarSize,
      size,
      etag: `${from ? hexOf(from.diffId) : ''}-${tree.entry(inode)}`,
      pieces: [...filePieces(tree, inode, { start: 0, end: size })],
    }
  }

  async *#bytesOf({ layer, tarSize }: FoundFile, pieces: readonly FilePiece[]): AsyncGenerator<Uint8Array> {
    const until = pieces.reduce((end, piece) => ('end' in piece ? Math.max(end, piece.end) : end), 0)
    await using cursor = layer && this.bytes.cursor(layer, { until, size: tarSize })
    for (const piece of pieces) {
      if ('end' in piece) yield* cursor!.take(piece.start, piece.end)
      else
        for (let left = piece.zeros; left > 0; left -= ZEROS.length)
          yield ZEROS.subarray(0, Math.min(left, ZEROS.length))
    }
  }
}

interface FoundFile {
  /** None where the image has no layers. */
  readonly layer: ImageLayer | undefined
  readonly tarSize: number
  readonly size: number
  readonly etag: string
  readonly pieces: readonly FilePiece[]
}

/**
 * A page ends behind the file with which its extended attributes have more bytes than this: each of
 * ten thousand files may have a quarter of a mebibyte of them.
 */
const MAX_PAGE_XATTRS = 4 * 1024 * 1024

const SLASH = Buffer.from('/')
const ZEROS = Buffer.alloc(256 * 1024)
const WHAT: Partial<Record<number, string>> = {
  [KIND.directory]: 'a folder',
  [KIND.char]: 'a device',
  [KIND.block]: 'a device',
  [KIND.fifo]: 'a FIFO',
  [KIND.lowerLink]: 'a link to a file of the layers below',
  [KIND.whiteout]: 'a whiteout',
}

function xattrBytes(tree: MergedTree, inode: number): number {
  return tree.xattrs(inode).reduce((sum, [name, value]) => sum + name.length + value.length, 0)
}

/** The pieces that make the bytes from `start` to `end`. */
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

function countsOf(index: LayerIndex): { entries: number; files: { count: number; bytes: number }; whiteouts: number } {
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
