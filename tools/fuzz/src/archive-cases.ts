import { gzipSync } from 'node:zlib'
import { concat, file, header, ZEROS } from '@strata/archive/testing'
import { digestOf, hexOf, MEDIA } from '@strata/oci'
import type { Random } from './random.js'
import { makeTar } from './tar-cases.js'

const VALUES: readonly unknown[] = [
  null,
  0,
  -1,
  1e300,
  '',
  'x',
  [],
  {},
  [null],
  ['../x'],
  '/etc/passwd',
  '../../x',
  `sha256:${'0'.repeat(64)}`,
  `sha512:${'0'.repeat(128)}`,
  'sha256:../x',
  { __proto__: null },
  true,
  'a:1',
  'UP//',
  'a'.repeat(300),
]

/**
 * An image archive, docker's of any age or an OCI layout or both, whose JSON and tar are then made
 * wrong in a few places.
 */
export function makeImageArchive(random: Random): Buffer {
  const layers = random.some(3, () =>
    random.once(3) ? makeTar(random) : concat(file('f', String(random.number(99))), ZEROS),
  )
  const packed = layers.map((layer) => (random.once(3) ? gzipSync(layer) : layer))
  const config = text(
    {
      architecture: random.of(['amd64', 'arm64', '']),
      os: 'linux',
      config: { Cmd: ['x'] },
      rootfs: { type: 'layers', diff_ids: layers.map((layer) => digestOf(layer)) },
    },
    random,
  )
  const blobs: [path: string, bytes: Buffer][] = [config, ...packed].map((bytes) => [
    `blobs/sha256/${hexOf(digestOf(bytes))}`,
    bytes,
  ])
  const files: [string, Buffer][] = [...blobs]
  if (random.once(4)) files.push(...layersOfV1(layers, random))
  if (!random.once(3))
    files.push([
      'manifest.json',
      text(
        [
          {
            Config: blobs[0]![0],
            RepoTags: random.of([null, ['a:1'], ['a:1', 'b/c']]),
            Layers: blobs.slice(1).map(([path]) => path),
          },
        ],
        random,
      ),
    ])
  if (!random.once(3)) {
    const manifest = text(
      {
        schemaVersion: 2,
        mediaType: MEDIA.manifest,
        config: describe(config, MEDIA.config),
        layers: packed.map((bytes) => describe(bytes, MEDIA.layer)),
      },
      random,
    )
    const inner = text(
      {
        schemaVersion: 2,
        manifests: [{ ...describe(manifest, MEDIA.manifest), platform: { os: 'linux', architecture: 'amd64' } }],
      },
      random,
    )
    const top = random.once(3)
      ? describe(inner, MEDIA.index)
      : {
          ...describe(manifest, MEDIA.manifest),
          annotations: { 'org.opencontainers.image.ref.name': random.of(['1', 'a:1', '']) },
        }
    for (const bytes of [manifest, inner]) files.push([`blobs/sha256/${hexOf(digestOf(bytes))}`, bytes])
    files.push(['index.json', text({ schemaVersion: 2, manifests: [top] }, random)])
  }
  const entries = files.map(([path, bytes]) => entryOf(path, bytes, files, random))
  if (random.once(2)) entries.sort(() => random.number(3) - 1)
  if (random.once(3)) entries.push(...random.some(2, () => random.of(entries.length > 0 ? entries : [ZEROS])))
  const tar = concat(...entries, ZEROS)
  return random.once(10) ? tar.subarray(0, random.number(tar.length)) : tar
}

function entryOf(path: string, bytes: Buffer, files: readonly [string, Buffer][], random: Random): Buffer {
  if (path.length > 99 || !random.once(12)) return file(path, bytes)
  const [target] = random.of(files)
  return random.of([
    Buffer.alloc(0),
    header({
      name: path,
      type: '2',
      link: random.of([target, `../../${target}`, '/etc/passwd', '../../../x', path]).slice(0, 99),
    }),
    header({ name: path, type: '1', link: random.of([target, path, 'nothing']).slice(0, 99) }),
    header({ name: path, type: '5' }),
    file(`./${path}`.slice(0, 99), bytes),
    file(path, 'other'),
  ])
}

function layersOfV1(layers: readonly Buffer[], random: Random): [string, Buffer][] {
  const ids = layers.map((_, n) => hexOf(digestOf(`image ${n}`)))
  return [
    ...layers.flatMap((layer, n): [string, Buffer][] => [
      [
        `${ids[n]!}/json`,
        text({ id: ids[n], ...(n > 0 ? { parent: ids[n - 1] } : {}), os: 'linux', architecture: 'amd64' }, random),
      ],
      [`${ids[n]!}/layer.tar`, layer],
    ]),
    ['repositories', text({ a: { 1: ids.at(-1) ?? '' } }, random)],
  ]
}

function describe(bytes: Buffer, mediaType: string): { mediaType: string; digest: string; size: number } {
  return { mediaType, digest: digestOf(bytes), size: bytes.length }
}

/** JSON of a value, with something in it changed once in a while. */
function text(value: unknown, random: Random): Buffer {
  let json = JSON.stringify(random.once(8) ? changed(value, random) : value)
  if (random.once(30)) json = json.slice(0, random.number(json.length))
  return Buffer.from(json)
}

function changed(value: unknown, random: Random): unknown {
  if (value === null || typeof value !== 'object' || random.once(5)) return random.of(VALUES)
  const copy = structuredClone(value) as Record<string, unknown>
  const names = Object.keys(copy)
  if (names.length === 0) return random.of(VALUES)
  const name = random.of(names)
  copy[name] = changed(copy[name], random)
  return copy
}
