import { buffer } from 'node:stream/consumers'
import { StrataError } from '@strata/base'
import { digestOf, familiarReference, MEDIA, type Digest } from '@strata/oci'
import { pack } from 'tar-stream'
import { describe, expect, it } from 'vitest'
import { resolveArchive, type ResolveOptions } from './resolve.js'
import { listArchive } from '../testing/list-archive.js'

type Content = string | Buffer | { symlink: string } | { hardlink: string } | { folder: true }
type Entries = readonly (readonly [name: string, content: Content])[]

async function archive(entries: Entries): Promise<Buffer> {
  const tar = pack()
  for (const [name, content] of entries) {
    if (typeof content === 'object' && 'folder' in content) tar.entry({ name, type: 'directory' })
    else if (typeof content === 'string' || Buffer.isBuffer(content)) tar.entry({ name }, content)
    else if ('symlink' in content) tar.entry({ name, type: 'symlink', linkname: content.symlink })
    else tar.entry({ name, type: 'link', linkname: content.hardlink })
  }
  tar.finalize()
  return buffer(tar)
}

async function resolve(entries: Entries, options: ResolveOptions = { host: { os: 'linux', architecture: 'amd64' } }) {
  const { listing, readSmall } = listArchive(await archive(entries))
  return resolveArchive(listing, readSmall, options)
}

const json = (value: unknown) => JSON.stringify(value)
const layer = await archive([['hello', 'world']])
const config = (layers: readonly (Buffer | Digest)[] = [layer], architecture = 'amd64') =>
  json({
    os: 'linux',
    architecture,
    rootfs: { type: 'layers', diff_ids: layers.map((one) => (typeof one === 'string' ? one : digestOf(one))) },
  })
const path = (bytes: string | Buffer) => `blobs/sha256/${digestOf(bytes).slice(7)}`
const blob = (bytes: string | Buffer) => [path(bytes), bytes] as const
const descriptor = (bytes: string | Buffer, mediaType: string, rest: object = {}) => ({
  mediaType,
  digest: digestOf(bytes),
  size: bytes.length,
  ...rest,
})
const manifest = (of = config(), layers: readonly (string | Buffer)[] = [layer], rest: object = {}) =>
  json({
    schemaVersion: 2,
    config: descriptor(of, MEDIA.config),
    layers: layers.map((one) => descriptor(one, MEDIA.layer)),
    ...rest,
  })
const index = (manifests: object[]) => json({ schemaVersion: 2, manifests })
const refName = (name: string) => ({ annotations: { 'org.opencontainers.image.ref.name': name } })
const docker = (items: object[] = [{ Config: 'c.json', RepoTags: ['a:1'], Layers: ['l/layer.tar'] }]) =>
  ['manifest.json', json(items)] as const
const amd64 = { platform: { os: 'linux', architecture: 'amd64' } }
const arm64 = { platform: { os: 'linux', architecture: 'arm64' } }
const unknown = { platform: { os: 'unknown', architecture: 'unknown' } }
const [forArm, armConfig] = [manifest(config([layer], 'arm64')), config([layer], 'arm64')]
const one: Entries = [blob(layer), blob(config()), blob(manifest())]

describe('names', () => {
  const names: [why: string, entries: Entries, options: ResolveOptions, names: string[]][] = [
    ['RepoTags', [docker(), ['c.json', config()], ['l/layer.tar', layer]], {}, ['a:1']],
    [
      'items of one config',
      [
        docker([
          { Config: 'c.json', RepoTags: ['a:1'], Layers: ['l'] },
          { Config: './c.json', RepoTags: ['b', 'a:1'], Layers: ['l'] },
        ]),
        ['c.json', config()],
        ['l', layer],
      ],
      {},
      ['a:1', 'b:latest'],
    ],
    [
      'docker’s sign for none',
      [docker([{ Config: 'c.json', RepoTags: ['<none>:<none>'], Layers: ['l'] }]), ['c.json', config()], ['l', layer]],
      {},
      [],
    ],
    [
      'RepoTags before annotations',
      [
        ...one,
        docker([{ Config: path(config()), RepoTags: ['a:1'], Layers: [path(layer)] }]),
        ['index.json', index([descriptor(manifest(), MEDIA.manifest, refName('b:2'))])],
      ],
      {},
      ['a:1'],
    ],
    [
      'annotations where RepoTags say nothing',
      [
        ...one,
        docker([{ Config: path(config()), RepoTags: null!, Layers: [path(layer)] }]),
        ['index.json', index([descriptor(manifest(), MEDIA.manifest, refName('b:2'))])],
      ],
      {},
      ['b:2'],
    ],
    [
      'containerd’s name before ref.name',
      [
        ...one,
        [
          'index.json',
          index([
            descriptor(manifest(), MEDIA.manifest, {
              annotations: { 'io.containerd.image.name': 'docker.io/fx/odd:3', ...refName('9').annotations },
            }),
          ]),
        ],
      ],
      {},
      ['fx/odd:3'],
    ],
    ['a bare tag', [...one, ['index.json', index([descriptor(manifest(), MEDIA.manifest, refName('3'))])]], {}, []],
    [
      'a bare tag with a name',
      [...one, ['index.json', index([descriptor(manifest(), MEDIA.manifest, refName('3'))])]],
      { name: 'me/it' },
      ['me/it:3'],
    ],
    [
      'a name with a tag',
      [...one, ['index.json', index([descriptor(manifest(), MEDIA.manifest, refName('3'))])]],
      { name: 'me/it:4' },
      ['me/it:4'],
    ],
    [
      'a name and no tag at all',
      [...one, ['index.json', index([descriptor(manifest(), MEDIA.manifest)])]],
      { name: 'me/it' },
      ['me/it:latest'],
    ],
    [
      'a ref.name that is no image’s name',
      [...one, ['index.json', index([descriptor(manifest(), MEDIA.manifest, refName('Some+Thing/x'))])]],
      {},
      [],
    ],
    [
      'containerd’s name with the digest of an index of which one platform is taken',
      [
        ...one,
        blob(index([descriptor(manifest(), MEDIA.manifest, amd64)])),
        [
          'index.json',
          index([
            descriptor(index([descriptor(manifest(), MEDIA.manifest, amd64)]), MEDIA.index, {
              annotations: { 'io.containerd.image.name': `a.io/x:3.9@${digestOf('an index')}` },
            }),
          ]),
        ],
      ],
      {},
      ['a.io/x:3.9'],
    ],
    [
      'RepoTags with digests, with a tag and without',
      [
        docker([
          {
            Config: 'c.json',
            RepoTags: [`a:1@${digestOf('x')}`, `b@${digestOf('x')}`, 'a:1'],
            Layers: ['l/layer.tar'],
          },
        ]),
        ['c.json', config()],
        ['l/layer.tar', layer],
      ],
      {},
      ['a:1'],
    ],
    [
      'one manifest under two names',
      [
        ...one,
        [
          'index.json',
          index([
            descriptor(manifest(), MEDIA.manifest, { ...refName('a:1'), ...amd64 }),
            descriptor(manifest(), MEDIA.manifest, { ...refName('b:2'), ...amd64 }),
          ]),
        ],
      ],
      {},
      ['a:1', 'b:2'],
    ],
  ]
  it.each(names)('%s', async (_why, entries, options, expected) => {
    expect((await resolve(entries, options)).map((image) => image.names.map(familiarReference))).toEqual([expected])
  })
})

describe('what is an image', () => {
  const nested = index([
    descriptor(forArm, MEDIA.manifest, arm64),
    descriptor(manifest(), MEDIA.manifest, amd64),
    descriptor('{}', MEDIA.manifest, unknown),
  ])
  const good: [why: string, entries: Entries, architecture: string][] = [
    [
      'layers as links',
      [
        docker(),
        ['c.json', { hardlink: 'd.json' }],
        ['d.json', config()],
        ['l/layer.tar', { symlink: '../x/layer.tar' }],
        ['x/layer.tar', { symlink: '../y' }],
        ['y', layer],
      ],
      'amd64',
    ],
    [
      'of entries of one name the last',
      [['c.json', '{'], ['l/layer.tar', 'no'], docker(), ['c.json', config()], ['./l//layer.tar', layer]],
      'amd64',
    ],
    ['no layer', [docker([{ Config: 'c.json', RepoTags: [], Layers: null! }]), ['c.json', config([])]], 'amd64'],
    [
      'this machine’s platform of several',
      [...one, blob(forArm), blob(armConfig), blob(nested), ['index.json', index([descriptor(nested, MEDIA.index)])]],
      'amd64',
    ],
    [
      'the only platform that was saved',
      [
        blob(layer),
        blob(forArm),
        blob(armConfig),
        blob(nested),
        ['index.json', index([descriptor(nested, MEDIA.index)])],
      ],
      'arm64',
    ],
    [
      'platforms beside each other in index.json',
      [
        ...one,
        blob(forArm),
        blob(armConfig),
        [
          'index.json',
          index([
            descriptor(forArm, MEDIA.manifest, { ...arm64, ...refName('a') }),
            descriptor(manifest(), MEDIA.manifest, { ...amd64, ...refName('a') }),
          ]),
        ],
      ],
      'amd64',
    ],
    [
      'an image among signatures',
      [
        ...one,
        blob(manifest('{}', [], { config: descriptor('{}', 'application/vnd.dev.cosign') })),
        [
          'index.json',
          index([
            descriptor(manifest('{}', [], { config: descriptor('{}', 'application/vnd.dev.cosign') }), MEDIA.manifest),
            descriptor(manifest(), MEDIA.manifest),
          ]),
        ],
      ],
      'amd64',
    ],
    ...[null, undefined].map((layers): (typeof good)[number] => {
      const artifact = manifest('{}', [], { config: descriptor('{}', 'application/vnd.oci.empty.v1+json'), layers })
      return [
        `an image beside an artifact whose layers are ${layers}`,
        [
          ...one,
          blob(artifact),
          ['index.json', index([descriptor(artifact, MEDIA.manifest), descriptor(manifest(), MEDIA.manifest)])],
        ],
        'amd64',
      ]
    }),
    [
      'an empty manifest.json beside an index',
      [...one, docker([]), ['index.json', index([descriptor(manifest(), MEDIA.manifest)])]],
      'amd64',
    ],
    [
      'a blob as a link',
      [
        blob(config()),
        blob(manifest()),
        ['layer', layer],
        [path(layer), { symlink: '../../layer' }],
        ['index.json', index([descriptor(manifest(), MEDIA.manifest)])],
      ],
      'amd64',
    ],
  ]
  it.each(good)('%s', async (_why, entries, architecture) => {
    expect(await resolve(entries)).toMatchObject([{ platform: { os: 'linux', architecture } }])
  })
})

describe('hostile and broken archives', () => {
  const other = digestOf('other')
  const wide = index([
    descriptor(forArm, MEDIA.manifest, arm64),
    descriptor(manifest(config([layer], 's390x')), MEDIA.manifest, {
      platform: { os: 'linux', architecture: 's390x' },
    }),
  ])
  const deep = [index([]), index([]), index([]), index([]), index([]), index([])].reduce<string[]>(
    (all) => [index([descriptor(all[0] ?? manifest(), all[0] ? MEDIA.index : MEDIA.manifest)]), ...all],
    [],
  )
  const fat = `{"x":"${'x'.repeat(4 * 1024 * 1024)}"}`
  const bad: [why: string, entries: Entries, code: StrataError['code'], sentence: string | RegExp][] = [
    ['nothing', [], 'not_an_image', 'the archive is empty'],
    ['files', [['a', 'b']], 'not_an_image', 'the archive is not an image: it has neither manifest.json nor index.json'],
    [
      'a root file system',
      [
        ['./bin/', { folder: true }],
        ['./etc/passwd', 'root'],
        ['./usr/', { folder: true }],
      ],
      'not_an_image',
      'the archive looks like a root file system (bin, etc, usr), not like an image: it has neither manifest.json nor index.json',
    ],
    ['manifest.json that is a folder', [['manifest.json', { folder: true }]], 'not_an_image', /neither manifest\.json/],
    ['no image listed', [docker([])], 'not_an_image', 'the archive lists no image'],
    [
      'a path above the archive',
      [docker([{ Config: '../c.json', Layers: [] }])],
      'archive_invalid',
      'manifest.json names "../c.json", a path outside the archive',
    ],
    [
      'an absolute path',
      [docker([{ Config: 'c.json', Layers: ['/etc/shadow'] }]), ['c.json', config()]],
      'archive_invalid',
      'manifest.json names "/etc/shadow", a path outside the archive',
    ],
    [
      'a path out by a detour',
      [docker([{ Config: 'c.json', Layers: ['a/../../x'] }]), ['c.json', config()]],
      'archive_invalid',
      /outside the archive/,
    ],
    [
      'a link out',
      [docker(), ['c.json', config()], ['l/layer.tar', { symlink: '../../etc/shadow' }]],
      'archive_invalid',
      'l/layer.tar is a link to ../../etc/shadow, outside the archive',
    ],
    [
      'an absolute link',
      [docker(), ['c.json', config()], ['l/layer.tar', { symlink: '/layer.tar' }], ['layer.tar', layer]],
      'archive_invalid',
      /is a link to \/layer\.tar, outside/,
    ],
    [
      'links in a circle',
      [docker(), ['c.json', config()], ['l/layer.tar', { symlink: '../m' }], ['m', { symlink: 'l/layer.tar' }]],
      'archive_invalid',
      'l/layer.tar is a link that leads back to itself',
    ],
    [
      'a link to itself',
      [['manifest.json', { hardlink: 'manifest.json' }]],
      'archive_invalid',
      'manifest.json is a link that leads back to itself',
    ],
    [
      'no layer file',
      [docker(), ['c.json', config()]],
      'layer_missing',
      'the layer "l/layer.tar" of the image docker.io/library/a:1 is not in the archive',
    ],
    [
      'a layer that is a folder',
      [docker(), ['c.json', config()], ['l/layer.tar', { folder: true }]],
      'layer_missing',
      /"l\/layer\.tar"/,
    ],
    [
      'no config',
      [docker()],
      'archive_invalid',
      'manifest.json names the config "c.json", which is not in the archive',
    ],
    [
      'too many layers',
      [docker(), ['c.json', config([])], ['l/layer.tar', layer]],
      'archive_invalid',
      'the image docker.io/library/a:1 has 1 layer, but its config lists 0',
    ],
    [
      'another layer',
      [docker(), ['c.json', config([other])], ['l/layer.tar', layer]],
      'digest_mismatch',
      `the layer l/layer.tar is ${digestOf(layer)}, but the image’s config lists ${other} there`,
    ],
    [
      'another config',
      [docker([{ Config: `${other.slice(7)}.json`, Layers: [] }]), [`${other.slice(7)}.json`, config([])]],
      'digest_mismatch',
      `the config ${other} of the archive is ${digestOf(config([]))}`,
    ],
    [
      'one config, other layers',
      [
        docker([
          { Config: 'c.json', Layers: ['l'] },
          { Config: 'c.json', Layers: [] },
        ]),
        ['c.json', config()],
        ['l', layer],
      ],
      'archive_invalid',
      /twice, with different layers/,
    ],
    [
      'a wrong name',
      [docker([{ Config: 'c.json', RepoTags: ['../../X'], Layers: [] }]), ['c.json', config([])]],
      'name_invalid',
      /"\.\.\/\.\.\/X" is not an image name/,
    ],
    ['manifest.json that is not JSON', [['manifest.json', '[{']], 'archive_invalid', 'manifest.json is not JSON'],
    [
      'manifest.json of another shape',
      [['manifest.json', '[{"Config":7}]']],
      'archive_invalid',
      /manifest\.json is not valid: 0\.Config/,
    ],
    [
      'a config of another shape',
      [docker(), ['c.json', '{}'], ['l/layer.tar', layer]],
      'archive_invalid',
      /c\.json is not valid: rootfs/,
    ],
    [
      'a diffID that is a path',
      [
        docker(),
        ['c.json', json({ rootfs: { type: 'layers', diff_ids: ['sha256:../../x'] } })],
        ['l/layer.tar', layer],
      ],
      'archive_invalid',
      /not a sha256 digest/,
    ],
    [
      'a fat manifest.json',
      [['manifest.json', fat]],
      'limit_exceeded',
      `manifest.json has ${fat.length} bytes; the limit for JSON is 4194304`,
    ],
    [
      'a blob under another’s digest',
      [
        ['index.json', index([{ mediaType: MEDIA.manifest, digest: other, size: 5 }])],
        [`blobs/sha256/${other.slice(7)}`, 'evil!'],
      ],
      'digest_mismatch',
      `the blob ${other} of the archive is ${digestOf('evil!')}`,
    ],
    [
      'a manifest that is not there',
      [['index.json', index([descriptor(manifest(), MEDIA.manifest)])]],
      'archive_invalid',
      `index.json names the manifest ${digestOf(manifest())}, which is not in the archive`,
    ],
    [
      'a blob of another length',
      [...one, ['index.json', index([{ ...descriptor(manifest(), MEDIA.manifest), size: 3 }])]],
      'archive_invalid',
      /the archive’s manifests say 3/,
    ],
    [
      'no config blob',
      [blob(manifest()), blob(layer), ['index.json', index([descriptor(manifest(), MEDIA.manifest)])]],
      'archive_invalid',
      /the config sha256:\w+ of the manifest/,
    ],
    [
      'no layer blob',
      [
        blob(manifest()),
        blob(config()),
        ['index.json', index([descriptor(manifest(), MEDIA.manifest, refName('a:1'))])],
      ],
      'layer_missing',
      `the layer ${digestOf(layer)} of the image docker.io/library/a:1 is neither in the archive nor here`,
    ],
    [
      'other platforms only',
      [
        blob(layer),
        blob(forArm),
        blob(armConfig),
        blob(config([layer], 's390x')),
        blob(manifest(config([layer], 's390x'))),
        blob(wide),
        ['index.json', index([descriptor(wide, MEDIA.index)])],
      ],
      'unsupported',
      'the archive has the image for linux/arm64, linux/s390x, but not for linux/amd64',
    ],
    [
      'an index of nothing that is there',
      [blob(wide), ['index.json', index([descriptor(wide, MEDIA.index)])]],
      'archive_invalid',
      /none of the manifests of the index/,
    ],
    [
      'an index in an index in an index …',
      [...one, ...deep.map(blob), ['index.json', index([descriptor(deep[0]!, MEDIA.index)])]],
      'limit_exceeded',
      /more than 4 indexes/,
    ],
    [
      'both manifest and index',
      [
        blob(manifest(config(), [layer], { manifests: [] })),
        ['index.json', index([descriptor(manifest(config(), [layer], { manifests: [] }), MEDIA.manifest)])],
      ],
      'archive_invalid',
      /manifests/,
    ],
    [
      'signatures only',
      [
        blob(manifest('{}', [], { config: descriptor('{}', 'application/vnd.dev.cosign') })),
        [
          'index.json',
          index([
            descriptor(manifest('{}', [], { config: descriptor('{}', 'application/vnd.dev.cosign') }), MEDIA.manifest),
          ]),
        ],
      ],
      'not_an_image',
      'the archive lists no image',
    ],
    [
      'an encrypted layer',
      [
        ...one.slice(0, 2),
        blob(manifest(config(), [], { layers: [descriptor(layer, `${MEDIA.layer}+encrypted`)] })),
        [
          'index.json',
          index([
            descriptor(
              manifest(config(), [], { layers: [descriptor(layer, `${MEDIA.layer}+encrypted`)] }),
              MEDIA.manifest,
            ),
          ]),
        ],
      ],
      'unsupported',
      /is encrypted/,
    ],
  ]
  it.each(bad)('%s', async (_why, entries, code, sentence) => {
    const error: unknown = await resolve(entries).then(
      (images) => images,
      (reason: unknown) => reason,
    )
    expect(error).toBeInstanceOf(StrataError)
    expect(error).toMatchObject({ code })
    if (typeof sentence === 'string') expect((error as Error).message).toBe(sentence)
    else expect((error as Error).message).toMatch(sentence)
  })

  it('ends a small archive that names a large config very often', async () => {
    const large = config([]).replace('{', `{"x":"${'x'.repeat(1024 * 1024)}",`)
    const manifests = Array.from({ length: 80 }, (_, n) => manifest(large, [], { annotations: { n: `${n}` } }))
    const entries = [
      blob(large),
      ...manifests.map(blob),
      ['index.json', index(manifests.map((text) => descriptor(text, MEDIA.manifest)))] as const,
    ]
    await expect(resolve(entries)).rejects.toMatchObject({
      code: 'limit_exceeded',
      message: expect.stringContaining('together') as string,
    })
  })

  const tags = (count: number) => Array.from({ length: count }, (_, n) => `t:${n}`)
  const named = (count: number) =>
    index(tags(count).map((name) => descriptor(manifest(), MEDIA.manifest, refName(name))))
  const distinct = (count: number) => Array.from({ length: count }, (_, n) => config([]).replace('{', `{"n":${n},`))
  it.each<[what: string, entries: (count: number) => Entries, sentence: string]>([
    [
      'names in manifest.json',
      (count) => [
        docker([{ Config: 'c.json', RepoTags: tags(count), Layers: ['l'] }]),
        ['c.json', config()],
        ['l', layer],
      ],
      'names',
    ],
    ['names in index.json', (count) => [...one, ['index.json', named(count)]], 'names'],
    [
      'names in index.json beside a manifest.json without any',
      (count) => [
        ...one,
        docker([{ Config: path(config()), RepoTags: null!, Layers: [path(layer)] }]),
        ['index.json', named(count)],
      ],
      'names',
    ],
    [
      'images in manifest.json',
      (count) => [
        docker(distinct(count).map((_, n) => ({ Config: `${n}.json`, Layers: [] }))),
        ...distinct(count).map((text, n) => [`${n}.json`, text] as const),
      ],
      'images',
    ],
    [
      'images in index.json',
      (count) => {
        const manifests = distinct(count).map((text) => manifest(text, []))
        return [
          ...distinct(count).map(blob),
          ...manifests.map(blob),
          ['index.json', index(manifests.map((text) => descriptor(text, MEDIA.manifest)))],
        ]
      },
      'images',
    ],
  ])('counts %s', async (_what, entries, what) => {
    await expect(resolve(entries(5), { maxNames: 5 })).resolves.toBeDefined()
    await expect(resolve(entries(6), { maxNames: 5 })).rejects.toMatchObject({
      code: 'limit_exceeded',
      message: `the archive has 6 ${what}; the limit is 5`,
    })
  })

  it('reads no config and no manifest of an archive with too many names', async () => {
    const { listing, readSmall } = listArchive(
      await archive([
        docker([{ Config: 'c.json', RepoTags: tags(20_000), Layers: ['l'] }]),
        ['c.json', config()],
        ['l', layer],
      ]),
    )
    const read: number[] = []
    await expect(
      resolveArchive(listing, (source) => (read.push(source.size), readSmall(source))),
    ).rejects.toMatchObject({ code: 'limit_exceeded', message: 'the archive has 20000 names; the limit is 1000' })
    expect(read).toHaveLength(1)
  })

  it('reads a manifest that is named very often only so often', async () => {
    const inner = index(Array.from({ length: 8_000 }, () => descriptor(manifest(), MEDIA.manifest)))
    const outer = index([0, 1, 2].map((n) => descriptor(inner, MEDIA.index, { annotations: { n: `${n}` } })))
    await expect(resolve([...one, blob(inner), ['index.json', outer]])).rejects.toMatchObject({
      code: 'limit_exceeded',
      message: expect.stringContaining('more than 20000 manifests') as string,
    })
  })

  it('asks the store once for a layer that is left out, however many manifests name it', async () => {
    const asked: Digest[] = []
    const manifests = Array.from({ length: 50 }, (_, n) =>
      manifest(config([layer]), [layer], { annotations: { n: `${n}` } }),
    )
    const entries = [
      blob(config()),
      ...manifests.map(blob),
      ['index.json', index(manifests.map((text) => descriptor(text, MEDIA.manifest)))] as const,
    ]
    await expect(
      resolve(entries, { isKept: (digest) => (asked.push(digest), Promise.resolve(true)) }),
    ).resolves.toHaveLength(50)
    expect(asked).toEqual([digestOf(layer)])
  })

  it('refuses a config that holds too much, before anything is done for it', async () => {
    const deep = config([]).replace(
      '{',
      `{"config":{"Volumes":{${Array.from({ length: 100 }, (_, n) => `"/${n}${'/d'.repeat(1_900)}":{}`).join(',')}}},`,
    )
    for (const entries of [
      [docker([{ Config: 'c.json', Layers: [] }]), ['c.json', deep]],
      [blob(deep), blob(manifest(deep, [])), ['index.json', index([descriptor(manifest(deep, []), MEDIA.manifest)])]],
    ] as Entries[])
      await expect(resolve(entries)).rejects.toMatchObject({
        code: 'limit_exceeded',
        message: expect.stringMatching(/bytes in the paths of its volumes; the limit is 65536/) as string,
      })
  })

  it('passes on why a layer is none, only if an image has it', async () => {
    const { listing, readSmall } = listArchive(
      await archive([
        docker([{ Config: 'c.json', Layers: ['good'] }]),
        ['c.json', config()],
        ['good', layer],
        ['bad', 'x'],
      ]),
    )
    const spoil = (name: string) => ({
      entries: listing.entries.map((entry) =>
        entry.name === name
          ? { ...entry, layerError: { code: 'layer_invalid' as const, message: 'the layer is odd' } }
          : entry,
      ),
    })
    await expect(resolveArchive(spoil('bad'), readSmall)).resolves.toHaveLength(1)
    await expect(resolveArchive(spoil('good'), readSmall)).rejects.toMatchObject({
      code: 'layer_invalid',
      message: 'the layer is odd',
    })
  })

  it('notices that the store gives other bytes back', async () => {
    const { listing } = listArchive(await archive([docker()]))
    await expect(resolveArchive(listing, () => Promise.resolve(Buffer.from('[]')))).rejects.toMatchObject({
      code: 'corrupt',
    })
  })
})
