import { buffer } from 'node:stream/consumers'
import { isDeepStrictEqual } from 'node:util'
import { digestOf, hexOf } from '@strata/oci'
import { pack } from 'tar-stream'

/**
 * One thing of a tree; a file unless it says otherwise. Owner root, mode 0755 for folders and 0644
 * for files unless given.
 */
export type TreeEntry =
  | { readonly content: string | Buffer; readonly mode?: number }
  | { readonly folder: true; readonly mode?: number }
  | { readonly symlink: string }
  | { readonly hardlink: string }
/** A root file system by path, without a leading slash, folders before what lies in them. */
export type Tree = ReadonlyMap<string, TreeEntry>

export interface ImageSpec {
  readonly names: readonly string[]
  /** Layers as tars, lowest first. */
  readonly layers: readonly Buffer[]
  /** The part of the config that says what to run (image-spec, config.md, `config`). */
  readonly config?: Readonly<Record<string, unknown>>
  readonly architecture?: string
}

/** A time of its own, so that the same tree gives the same bytes. */
const MTIME = new Date('2024-01-01T00:00:00Z')

/** A tree as the tar of a layer. */
export function makeLayer(tree: Tree): Promise<Buffer> {
  const tar = pack()
  for (const [name, entry] of tree) {
    const header = {
      name,
      mtime: MTIME,
      mode: 'mode' in entry && entry.mode !== undefined ? entry.mode : 'folder' in entry ? 0o755 : 0o644,
    }
    if ('content' in entry) tar.entry(header, entry.content)
    else if ('folder' in entry) tar.entry({ ...header, type: 'directory' })
    else if ('symlink' in entry) tar.entry({ ...header, type: 'symlink', linkname: entry.symlink })
    else tar.entry({ ...header, type: 'link', linkname: entry.hardlink })
  }
  tar.finalize()
  return buffer(tar)
}

/**
 * What a layer has to hold to make `after` of `before`: what is new or other, and a whiteout for
 * what is gone (image-spec, layer.md, "Whiteouts").
 */
export function difference(before: Tree, after: Tree): Tree {
  const layer = new Map<string, TreeEntry>()
  for (const path of before.keys()) {
    const above = path.split('/').slice(0, -1)
    const parentGone = above.some((_, depth) => !isFolder(after.get(above.slice(0, depth + 1).join('/'))))
    if (!after.has(path) && !parentGone) layer.set(path.replace(/[^/]+$/, '.wh.$&'), { content: '' })
  }
  for (const [path, entry] of after) {
    if (!isDeepStrictEqual(before.get(path), entry)) layer.set(path, entry)
  }
  return layer
}

function isFolder(entry: TreeEntry | undefined): boolean {
  return entry !== undefined && 'folder' in entry
}

/**
 * Images as one archive in the form of `docker save` before docker 25; a layer that several have is
 * in it once.
 */
export async function makeArchive(...images: readonly ImageSpec[]): Promise<Buffer> {
  const files = new Map<string, string | Buffer>()
  const manifest = images.map(
    ({ names, layers, config = {}, architecture = process.arch === 'x64' ? 'amd64' : process.arch }) => {
      const diffIds = layers.map((layer) => digestOf(layer))
      const text = JSON.stringify({
        architecture,
        os: 'linux',
        created: MTIME.toISOString(),
        config,
        rootfs: { type: 'layers', diff_ids: diffIds },
      })
      const Layers = layers.map((layer, at) => {
        const path = `${hexOf(diffIds[at]!)}/layer.tar`
        files.set(path, layer)
        return path
      })
      const Config = `${hexOf(digestOf(text))}.json`
      files.set(Config, text)
      return { Config, RepoTags: names, Layers }
    },
  )
  files.set('manifest.json', JSON.stringify(manifest))
  return makeLayer(new Map([...files].map(([path, content]) => [path, { content }])))
}

/**
 * `count` layers that each add `layer-<n>` and write their number to `top`, above the given tree.
 */
export async function manyLayers(count: number, tree: Tree = new Map()): Promise<Buffer[]> {
  const layers = count > 0 ? [await makeLayer(tree)] : []
  for (let n = 1; n < count; n++)
    layers.push(
      await makeLayer(
        new Map([
          [`layer-${n}`, { content: `${n}\n` }],
          ['top', { content: `${n}\n` }],
        ]),
      ),
    )
  return layers
}
