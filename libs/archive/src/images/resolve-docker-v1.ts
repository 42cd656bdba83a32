import { StrataError } from '@strata/base'
import {
  digestOf,
  expectConfig,
  formatReference,
  imageConfigSchema,
  MAX_JSON_BYTES,
  parseJson,
  platformOf,
  type DiffId,
} from '@strata/oci'
import { z } from 'zod'
import { layersOf } from './image-archive.js'
import type { ArchiveFile, ArchiveFiles } from './resolve-files.js'
import { distinct, namesOfRepoTags, type ResolvedImage } from './resolve-names.js'

/**
 * docker's image-spec v1.0 and v1.1, "Combined Image JSON + Filesystem Changeset Format": all that
 * docker before 1.10 wrote.
 */
const repositoriesSchema = z
  .record(z.string(), z.record(z.string(), z.string()))
  .nullish()
  .transform((value) => value ?? {})
const text = z
  .string()
  .nullish()
  .transform((value) => value ?? '')
const fieldsSchema = z.object({
  parent: text,
  created: z.string().nullish(),
  author: text,
  comment: text,
  container_config: z.object({ Cmd: z.array(z.string()).nullish() }).nullish(),
})
/**
 * An image of that time is one layer and its parent's id. `json` is as written, for the config that
 * is made of it.
 */
const imageSchema = z
  .record(z.string(), z.unknown())
  .superRefine((json, context) => {
    for (const { path, message } of fieldsSchema.safeParse(json).error?.issues ?? [])
      context.addIssue({ code: 'custom', path, message })
  })
  .transform((json) => ({ json, ...fieldsSchema.parse(json) }))
type Image = z.infer<typeof imageSchema>

const IMAGE_PATH = /^([0-9a-f]{64})\/json$/
/** What docker leaves out of a config that it makes of such an image. */
const OF_ITS_TIME = ['id', 'parent', 'Size', 'parent_id', 'layer_id', 'throwaway']

/** The archive's images are folders named by ids, without a list of them. */
export function isDockerV1(files: ArchiveFiles): boolean {
  return files.paths().some((path) => IMAGE_PATH.test(path))
}

/**
 * The images that docker before 1.10 saved: those `repositories` names, and those that are nobody's
 * parent. The config is made as docker makes it when it loads such an archive, byte for byte, so
 * that the image has the same id here and there.
 */
export async function resolveDockerV1(files: ArchiveFiles): Promise<ResolvedImage[]> {
  const images = new Map<string, Image>()
  for (const path of files.paths()) {
    const id = IMAGE_PATH.exec(path)?.[1]
    const file = id === undefined ? undefined : files.find(path)
    if (id !== undefined && file) images.set(id, await files.json(file, imageSchema))
  }
  const names = await namesOf(files)
  const parents = new Set(Array.from(images.values(), ({ parent }) => parent))
  const wanted = new Set([...names.keys(), ...[...images.keys()].filter((id) => !parents.has(id))])
  files.expectFew(wanted.size, 'images')
  return [...wanted].map((id) => imageOf(files, images, id, distinct(namesOfRepoTags(names.get(id) ?? []))))
}

/** `name:tag` of each image by its id. */
async function namesOf(files: ArchiveFiles): Promise<Map<string, string[]>> {
  const names = new Map<string, string[]>()
  const file = files.find('repositories')
  let count = 0
  for (const [repository, tags] of Object.entries(file ? await files.json(file, repositoriesSchema) : {})) {
    files.expectFew((count += Object.keys(tags).length), 'names')
    for (const [tag, id] of Object.entries(tags)) {
      const known = names.get(id)
      if (known) known.push(`${repository}:${tag}`)
      else names.set(id, [`${repository}:${tag}`])
    }
  }
  return names
}

function imageOf(
  files: ArchiveFiles,
  images: ReadonlyMap<string, Image>,
  id: string,
  names: ResolvedImage['image']['names'],
): ResolvedImage {
  const chain = chainOf(images, id)
  const label = names[0] ? formatReference(names[0]) : id
  const layers = chain.map(([ancestor]) => layerOf(files, ancestor, label))
  const bytes = makeConfig(
    chain.map(([, image]) => image),
    layers.map(({ blob }) => blob.digest as string as DiffId),
  )
  // What one ancestor says stands in the history of every image that comes of it.
  files.countJson(bytes.length)
  const parsed = parseJson(imageConfigSchema, bytes, `the json of ${label}`)
  expectConfig(parsed, `the json of ${label}`)
  const config = { digest: digestOf(bytes), size: bytes.length, bytes }
  return {
    image: { config, layers: layersOf(layers, parsed, label), names, platform: platformOf(parsed) },
    bareTag: undefined,
  }
}

/** The image and its ancestors, the lowest first. */
function chainOf(images: ReadonlyMap<string, Image>, id: string): [string, Image][] {
  const chain = new Map<string, Image>()
  for (let at = id; at !== '';) {
    const image = images.get(at)
    if (!image)
      throw new StrataError(
        'archive_invalid',
        `the image ${JSON.stringify(at.slice(0, 64))} is named in the archive, but its json is not in it`,
      )
    if (chain.has(at)) throw new StrataError('archive_invalid', `the image ${id} is its own ancestor`)
    chain.set(at, image)
    at = image.parent
  }
  return [...chain].reverse()
}

function layerOf(files: ArchiveFiles, id: string, label: string): ArchiveFile {
  const layer = files.find(`${id}/layer.tar`)
  if (!layer)
    throw new StrataError('layer_missing', `the layer ${id}/layer.tar of the image ${label} is not in the archive`)
  // Its diffID would be known only once it is unpacked, and the config is made of diffIDs.
  if ((layer.entry.compression ?? 'none') !== 'none')
    throw new StrataError(
      'unsupported',
      `the layer ${id}/layer.tar of the image ${label} is packed, which no docker before 1.10 wrote`,
    )
  return layer
}

/**
 * The image's own json without what is of its time, with the layers' diffIDs and a line of history
 * each; as Go's encoding/json writes a map.
 */
function makeConfig(chain: readonly Image[], diffIds: readonly DiffId[]): Buffer {
  const history = chain.map(({ created, author, comment, container_config }) => ({
    created: created ?? '0001-01-01T00:00:00Z',
    ...(author ? { author } : {}),
    ...(container_config?.Cmd?.length ? { created_by: container_config.Cmd.join(' ') } : {}),
    ...(comment ? { comment } : {}),
  }))
  const own = Object.entries(chain.at(-1)?.json ?? {}).filter(([key]) => !OF_ITS_TIME.includes(key))
  const config = new Map<string, unknown>([
    ...own,
    ['history', history],
    ['rootfs', { type: 'layers', diff_ids: diffIds }],
  ])
  const sorted = [...config].sort(([a], [b]) => (a < b ? -1 : 1))
  const json = JSON.stringify(Object.fromEntries(sorted)).replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  if (json.length > MAX_JSON_BYTES)
    throw new StrataError(
      'limit_exceeded',
      `the image's config would have ${json.length} bytes; the limit for JSON is ${MAX_JSON_BYTES}`,
    )
  return Buffer.from(json)
}
