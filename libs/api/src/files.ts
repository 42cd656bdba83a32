import { z } from 'zod'
import { diffId, digest, tally } from './common.js'

/**
 * Names of files are bytes, and JSON has text. A name is given as text, and where that is not all
 * of it (it is not UTF-8), its bytes beside it in base64. In a request's `path` every byte stands
 * for itself or is percent-encoded, so that any name can be asked for: `?path=/a%FF`.
 */
const nameText = z
  .string()
  .meta({ description: 'as text; of bytes that are not UTF-8, with U+FFFD in place of what is none' })
const nameBytes = z.string().optional().meta({ description: 'base64 of its bytes, where the text is not all of them' })
const path = z
  .string()
  .max(16_384)
  .optional()
  .meta({ description: 'from the root; symbolic links are followed within the image. Any byte may be percent-encoded' })
const layer = z
  .string()
  .max(100)
  .optional()
  .meta({ description: 'one layer alone: its diffID, its digest, or its place, 0 the lowest' })
const limit = z.coerce.number().int().min(1).max(10_000).default(1_000)

const FILE_TYPES = ['file', 'directory', 'symlink', 'char', 'block', 'fifo', 'hardlink', 'whiteout'] as const
const fileSchema = z
  .object({
    name: nameText,
    nameBase64: nameBytes,
    type: z.enum(FILE_TYPES).meta({
      description:
        'of one layer alone also: hardlink, to a file of the layers below; whiteout, what they have under this name is hidden',
    }),
    size: z.number().int(),
    mode: z.string().meta({ description: 'twelve bits, octal: 0755' }),
    uid: z.number().int(),
    gid: z.number().int(),
    mtime: z.number().int().meta({ description: 'seconds since 1970, may be negative' }),
    mtimeNanos: z.number().int().optional(),
    links: z.number().int().optional().meta({ description: 'names of it, where there are several' }),
    target: z.string().optional().meta({ description: 'of a symlink or hardlink' }),
    targetBase64: nameBytes,
    device: z.tuple([z.number().int(), z.number().int()]).optional().meta({ description: 'major, minor' }),
    xattrs: z.record(z.string(), z.string()).optional().meta({ description: 'values in base64' }),
    opaque: z
      .literal(true)
      .optional()
      .meta({ description: 'of one layer alone: what the layers below have in this folder is hidden' }),
    layer: diffId
      .optional()
      .meta({ description: 'the layer that it is from; the root of an image without layers is from none' }),
  })
  .meta({ id: 'File' })
export type FileView = z.infer<typeof fileSchema>

/** `GET /v1/images/:ref/files`. */
export const filesQuery = z.object({
  path,
  layer,
  offset: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  limit,
})
export const fileListSchema = z
  .object({
    path: nameText.meta({ description: 'where it is when all symbolic links are followed' }),
    pathBase64: nameBytes,
    self: fileSchema,
    total: z.number().int().meta({ description: 'of a folder: how many things are in it' }),
    files: z.array(fileSchema).meta({ description: 'of a folder, in the order of their names’ bytes' }),
    next: z.number().int().optional().meta({ description: 'the offset of what follows, where something does' }),
  })
  .meta({ id: 'FileList' })
export type FileListView = z.infer<typeof fileListSchema>

/** `GET /v1/images/:ref/file`. */
export const fileQuery = z.object({ path, layer })

/**
 * `GET /v1/images/:ref/diff`. Strict: a client that pages by `offset`, as an older one does, would
 * get the first page for ever.
 */
export const diffQuery = z.strictObject({
  other: z.string().min(1).max(512).optional().meta({
    description: 'the image that it is compared with: what would have to change for this image to be that one',
  }),
  layer: layer.meta({ description: 'in place of other: what one layer changed in those below it' }),
  after: z
    .string()
    .max(8_192)
    .optional()
    .meta({ description: 'the `next` of the page before; absent for the first page' }),
  limit: limit.meta({ description: 'changes of a page, at most; a page of very long paths has fewer' }),
})
const changeSchema = z
  .object({
    path: nameText,
    pathBase64: nameBytes,
    kind: z.enum(['added', 'changed', 'removed']),
    type: z.enum(FILE_TYPES).meta({ description: 'of what is there afterwards, or was' }),
    before: z.number().int().optional().meta({ description: 'its size before' }),
    after: z.number().int().optional().meta({ description: 'its size afterwards' }),
    aspects: z
      .array(z.string())
      .optional()
      .meta({ description: 'of a change, what changed: type, size, mtime, mode, owner, target, device, xattrs' }),
  })
  .meta({ id: 'Change' })
export type ChangeView = z.infer<typeof changeSchema>
const ON_FIRST = 'on the first page only'
export const diffSchema = z
  .object({
    added: tally.optional().meta({ description: `of the whole difference, ${ON_FIRST}` }),
    changed: tally
      .optional()
      .meta({ description: `of the whole difference, bytes as they are afterwards; ${ON_FIRST}` }),
    removed: tally.optional().meta({ description: `of the whole difference, ${ON_FIRST}` }),
    unread: tally.optional().meta({
      description: `files alike in size, time and all else that the indexes know, but from different layers: they count as unchanged, and only their bytes could tell; ${ON_FIRST}`,
    }),
    changes: z
      .array(changeSchema)
      .meta({ description: 'a folder before what is in it, names in the order of their bytes' }),
    next: z.string().optional().meta({ description: 'where the next page begins (`after`), where there is one' }),
  })
  .meta({ id: 'Diff' })
export type DiffView = z.infer<typeof diffSchema>

export const historySchema = z
  .object({
    steps: z
      .array(
        z.object({
          created: z.string().optional(),
          createdBy: z.string(),
          comment: z.string(),
          layer: z
            .object({
              digest,
              diffId,
              size: z.number().int().meta({ description: 'as it is kept' }),
              entries: z.number().int(),
              files: tally.meta({ description: 'files in it, and their bytes' }),
              whiteouts: z.number().int(),
            })
            .optional()
            .meta({ description: 'the layer that this step made; none for a step of metadata only' }),
        }),
      )
      .meta({ description: 'the first step first. Layers that no step tells of stand at the end' }),
  })
  .meta({ id: 'History' })
export type HistoryView = z.infer<typeof historySchema>
