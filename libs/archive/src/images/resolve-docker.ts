import { StrataError } from '@strata/base'
import { formatReference, isDigest, platformOf, type Digest } from '@strata/oci'
import { z } from 'zod'
import { layersOf } from './image-archive.js'
import type { ArchiveFile, ArchiveFiles } from './resolve-files.js'
import { distinct, namesOfRepoTags, type ResolvedImage } from './resolve-names.js'
import { layoutImage, type LayoutManifest } from './resolve-oci.js'

const texts = z
  .array(z.string())
  .nullish()
  .transform((value) => value ?? [])
const itemSchema = z.object({ Config: z.string(), RepoTags: texts, Layers: texts })
type Item = z.infer<typeof itemSchema>
/**
 * docker's image-spec v1.2, "Combined Image JSON + Filesystem Changeset Format", which docker 1.10
 * and later and podman write.
 */
const dockerManifestSchema = z
  .array(itemSchema)
  .nullish()
  .transform((value) => value ?? [])

/**
 * The images that `manifest.json` lists. Where the archive is an OCI layout as well (docker 25 and
 * later), an image whose config is that of one of its manifests is taken by that manifest, so that
 * its digest stays what a registry would say.
 */
export async function resolveDocker(
  files: ArchiveFiles,
  manifest: ArchiveFile,
  layout: readonly LayoutManifest[],
): Promise<ResolvedImage[]> {
  const byConfig = new Map(layout.map((found) => [found.manifest.config.digest, found]))
  const images: ResolvedImage[] = []
  for (const { config, items } of await imagesOf(files, manifest)) {
    const first = items[0]!
    const names = distinct(items.flatMap((item) => namesOfRepoTags(item.RepoTags)))
    const found = byConfig.get(config.blob.digest)
    if (found) {
      images.push(
        await layoutImage(files, names.length > 0 ? { ...found, names: { names, bareTag: undefined } } : found),
      )
      continue
    }
    const label = names[0] ? formatReference(names[0]) : config.blob.digest
    const layers = first.Layers.map((path) => {
      const layer = files.findNamed(path, manifest.path)
      if (!layer)
        throw new StrataError(
          'layer_missing',
          `the layer ${JSON.stringify(path.slice(0, 200))} of the image ${label} is not in the archive`,
        )
      return layer
    })
    const parsed = await files.config(config)
    images.push({
      image: { config: config.blob, layers: layersOf(layers, parsed, label), names, platform: platformOf(parsed) },
      bareTag: undefined,
    })
  }
  return images
}

/**
 * One entry an image: a config has one list of layers, so items of one config are one image with
 * more names.
 */
async function imagesOf(files: ArchiveFiles, manifest: ArchiveFile): Promise<{ config: ArchiveFile; items: Item[] }[]> {
  const images = new Map<Digest, { config: ArchiveFile; items: Item[] }>()
  const listed = await files.json(manifest, dockerManifestSchema)
  files.expectFew(listed.length, 'images')
  files.expectFew(
    listed.reduce((sum, item) => sum + item.RepoTags.length, 0),
    'names',
  )
  for (const item of listed) {
    const config = configOf(files, item, manifest.path)
    const known = images.get(config.blob.digest)
    if (!known) images.set(config.blob.digest, { config, items: [item] })
    else if (known.items[0]!.Layers.join('\0') === item.Layers.join('\0')) known.items.push(item)
    else
      throw new StrataError(
        'archive_invalid',
        `${manifest.path} lists the image ${config.blob.digest} twice, with different layers`,
      )
  }
  return [...images.values()]
}

function configOf(files: ArchiveFiles, item: Item, manifest: string): ArchiveFile {
  const config = files.findNamed(item.Config, manifest)
  if (!config)
    throw new StrataError(
      'archive_invalid',
      `${manifest} names the config ${JSON.stringify(item.Config.slice(0, 200))}, which is not in the archive`,
    )
  // Every tool names a config by its digest: `<hex>.json`, or `sha256:<hex>`.
  const named = `sha256:${/^(?:sha256:)?([^/]*?)(?:\.json)?$/.exec(item.Config)?.[1] ?? ''}`
  if (isDigest(named) && named !== config.blob.digest)
    throw new StrataError('digest_mismatch', `the config ${named} of the archive is ${config.blob.digest}`)
  return config
}
