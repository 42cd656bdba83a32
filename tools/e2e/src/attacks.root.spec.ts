import { execFileSync } from 'node:child_process'
import { lstatSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { block, concat, file, header, pax, paxHeader, ZEROS, type HeaderFields } from '@strata/archive/testing'
import type { FileListView, Problem } from '@strata/api'
import { lgetxattr } from '@strata/linux'
import { digestOf, MEDIA } from '@strata/oci'
import { DRIVER_NAMES } from '@strata/snapshots'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { guarded } from './testing/guard.js'
import { StrataUnderTest } from './testing/strata.js'

/**
 * Attacks of docs/security.md that other tools fell to, on whole ways through Strata: in by a door,
 * and onto a node by each driver. What is refused is refused; what is taken hurts nobody.
 */
const MEBIBYTE = 1024 * 1024

const at = (fields: HeaderFields): Buffer => header({ uid: 0, gid: 0, ...fields })
const dir = (name: string, mode = 0o755): Buffer => at({ name, type: '5', mode })
const link = (name: string, target: string): Buffer => at({ name, type: '2', link: target })
const hard = (name: string, target: string): Buffer => at({ name, type: '1', link: target })
const longName = (name: string): Buffer =>
  concat(at({ name: '././@LongLink', type: 'L', size: name.length + 1 }), block(`${name}\0`))
/**
 * A PAX header that says `size`, a file whose own header says 0, and what a reader finds that
 * believes the wrong one.
 */
const smuggling = (before: Buffer): Buffer =>
  concat(paxHeader(pax('size', '1024')), before, at({ name: 'outer', size: 0 }), file('smuggled', 'x'))

/** An old GNU sparse file of ten million pieces, which packs to next to nothing. */
const endlessMap = (): Buffer[] => {
  const full = block('00000000000\x0000000000000\0'.repeat(21) + '\x01')
  return [
    at({ name: 's', type: 'S', format: 'gnu', more: true, realSize: 0, size: 0 }),
    Buffer.alloc(Math.ceil(10_000_000 / 21) * full.length, full),
  ]
}
const sparse = (realSize: number): Buffer =>
  concat(
    paxHeader(
      pax('GNU.sparse.major', '1') +
        pax('GNU.sparse.minor', '0') +
        pax('GNU.sparse.name', 'hole') +
        pax('GNU.sparse.realsize', String(realSize)),
    ),
    at({ name: 'x', size: 513 }),
    block('1\n0\n1\n'),
    block('x'),
  )

/** One global header, of which each file gets all, up to what one may have. */
const attributed = (count: number): Buffer[] => [
  paxHeader(Array.from({ length: 4 }, (_, n) => pax(`SCHILY.xattr.user.n${n}`, 'v'.repeat(65_000))).join(''), 'g'),
  ...Array.from({ length: count }, (_, n) => at({ name: `f${n}` })),
]

type Look = (root: string, outside: string) => void
type Attack = [name: string, parts: (outside: string) => Buffer[], end: RegExp | Look]
const names = (root: string): string[] => readdirSync(root).sort()

const ATTACKS: Attack[] = [
  // node-tar (CVE-2026-23745, 24842, 26960), tar-fs (CVE-2024-12905, 2025-48387, 2025-59343)
  [
    'a hard link through a chain of symbolic links',
    () => [
      dir('a'),
      dir('a/b'),
      dir('a/b/c'),
      link('a/b/c/up', '../..'),
      link('a/b/escape', 'c/up/../..'),
      hard('exfil', 'a/b/escape/etc/passwd'),
    ],
    /hard link "exfil" names/,
  ],
  [
    'a hard link through one symbolic link out',
    (outside) => [link('out', outside), hard('exfil', 'out/canary')],
    /hard link "exfil" lies below .*symbolic link/,
  ],
  [
    'a file through a symbolic link out',
    (outside) => [link('out', outside), file('out/canary', 'dead')],
    /below .*symbolic link/,
  ],
  [
    'through links that lead out of the root: a file, a whiteout and an opaque mark',
    (outside) => [link('out', outside), dir(outside), file('out/f', 'x'), file('out/.wh.canary', '')],
    (root, outside) => expect(names(join(root, outside))).toEqual(['f']),
  ],
  [
    'a link that goes up as far as it can',
    (outside) => [link('up', '../'.repeat(30)), dir('tmp'), file(`up${outside}/f`, 'x'), hard('h', `up${outside}/f`)],
    (root, outside) => expect(readFileSync(join(root, outside, 'f'), 'utf8')).toBe('x'),
  ],
  [
    'a whiteout through a symbolic link out',
    (outside) => [link('o', outside), file('o/.wh.canary', '')],
    /below .*link/,
  ],
  [
    'an opaque mark through a symbolic link out',
    (outside) => [link('o', outside), file('o/.wh..wh..opq', '')],
    /below .*link/,
  ],
  [
    'a folder, then a link of its name that leads to where the layer has one too',
    (outside) => [dir('d'), dir(outside), file('d/a', 'x'), link('d', outside), file('d/b', 'y')],
    (root, outside) => expect(names(join(root, outside))).toEqual(['b']),
  ],
  // umoci (CVE-2021-29136)
  ['a root that is a symbolic link', (outside) => [link('./', outside), file('canary', 'dead')], /root/],
  // tar-rs (CVE-2026-33056)
  [
    'a symbolic link, then a folder of its name',
    (outside) => [link('out', outside), dir('out', 0o777)],
    (root) => expect(lstatSync(join(root, 'out')).isDirectory()).toBe(true),
  ],
  [
    'a folder, then a symbolic link of its name, then a file in it',
    (outside) => [dir('out'), link('out', outside), file('out/canary', 'dead')],
    /below .*symbolic link/,
  ],
  // tokio-tar (CVE-2025-62518), node-tar (CVE-2026-53655)
  [
    'a tar in a file whose header says 0 bytes',
    () => [smuggling(Buffer.alloc(0))],
    (root) => expect([names(root), statSync(join(root, 'outer')).size]).toEqual([['outer'], 1024]),
  ],
  [
    'a long name between a size and its file',
    () => [smuggling(longName('outer'))],
    (root) => expect([names(root), statSync(join(root, 'outer')).size]).toEqual([['outer'], 1024]),
  ],
  // node-tar (CVE-2024-28863), Go (CVE-2025-58183, CVE-2026-32288)
  [
    'a path of 100,000 folders',
    () => [paxHeader(pax('path', 'd/'.repeat(100_000))), file('x', '')],
    /more than 4096 bytes/,
  ],
  ['a sparse map of ten million pieces', endlessMap, /a sparse file's map has more than 1048576 bytes/],
  [
    'a sparse file of 100 GB in two kilobytes',
    () => [sparse(100e9)],
    (root) => expect(statSync(join(root, 'hole')).size).toBe(100e9),
  ],
  [
    'names that imply a thousand folders each',
    () =>
      Array.from({ length: 1_000 }, (_, n) =>
        concat(paxHeader(pax('path', `${n}/${'d/'.repeat(1_000)}f`)), file('x', '')),
      ),
    /imply \d+ folders/,
  ],
  [
    'a quarter of a mebibyte of attributes for each of 6,000 files',
    () => attributed(6_000),
    /index has more than 536870912 bytes/,
  ],
  // umoci
  ['whiteouts of nothing', () => [file('x/.wh.', '')], /a whiteout of nothing/],
  [
    'aufs’s own records are nobody’s whiteouts',
    () => [file('kept', 'x'), file('.wh..wh.plnk', ''), file('.wh..wh.', '')],
    (root) => expect(names(root)).toEqual(['kept']),
  ],
  // what would steer the machine
  [
    'overlayfs’s and trusted attributes',
    () => [
      paxHeader(
        pax('SCHILY.xattr.trusted.overlay.opaque', 'y') +
          pax('SCHILY.xattr.trusted.overlay.redirect', '/etc') +
          pax('SCHILY.xattr.user.overlay.metacopy', ''),
      ),
      dir('d'),
    ],
    (root) => expect(names(join(root, 'd'))).toEqual([]),
  ],
  [
    'a device of overlayfs’s',
    () => [file('kept', 'x'), at({ name: 'gone', type: '3', major: 0, minor: 0 })],
    (root) => expect(names(root)).toEqual(['kept']),
  ],
  [
    'a setuid file and a device work for nobody on the host',
    () => [
      file('su', '#!/bin/sh\n', { mode: 0o4755, uid: 0, gid: 0 }),
      at({ name: 'mem', type: '3', major: 1, minor: 1, mode: 0o666 }),
    ],
    (root) => expect(mountOptions(root)).toEqual(expect.arrayContaining(['nosuid', 'nodev', 'ro'])),
  ],
  [
    'names that are commands, lines and no text',
    () => [file('$(touch canary)', ''), file('a\nb', ''), file('-rf', ''), file('\xff\xfe', '')],
    (root) => expect(names(root)).toHaveLength(4),
  ],
]

function mountOptions(root: string): string[] {
  const line = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((text) => text.split(' '))
    .find(([, point]) => point === root)
  return line?.[3]?.split(',') ?? []
}

/**
 * What is refused never comes to a driver: a layer's index is made of its tar before, at the door
 * of a plain one and on the node of a packed one. What is taken is the same tar for every driver,
 * however it came. So the first driver gets all attacks, and each other one those that are taken.
 */
const ROWS = DRIVER_NAMES.map(
  (driver, at) =>
    [
      driver,
      ATTACKS.filter(([, , end]) => at === 0 || !(end instanceof RegExp)).flatMap(([name, parts, end]) =>
        (at === 0 ? (['plain', 'packed'] as const) : (['packed'] as const)).map(
          (way) => [name, way, parts, end] as const,
        ),
      ),
    ] as const,
)

describe.each(ROWS)('onto a node by %s', (driver, attacks) => {
  let strata: StrataUnderTest
  beforeAll(async () => {
    strata = await StrataUnderTest.start({ environment: { STRATA_SNAPSHOTTER: driver, STRATA_PREPARE: 'true' } })
  })
  afterAll(() => strata.dispose())
  const outside = guarded(() => strata)

  it.each(attacks)('%s, %s', async (_name, way, parts, end) => {
    const tar = concat(...parts(outside), ZEROS)
    const answer = await strata.request(
      'POST',
      '/v1/images?import=attack',
      Readable.from([way === 'plain' ? tar : gzipSync(tar)]),
    )
    if (end instanceof RegExp) {
      const { code, detail } = answer.json<Problem>()
      expect(['layer_invalid', 'limit_exceeded'], detail).toContain(code)
      expect(detail).toMatch(end)
      expect(await strata.images()).toEqual([])
      return
    }
    expect(answer.status, answer.bytes.toString()).toBe(201)
    const mounted = await strata.request('POST', '/v1/images/attack/mount')
    expect(mounted.status, mounted.bytes.toString()).toBe(200)
    end(mounted.json<{ path: string }>().path, outside)
    expect((await strata.request('DELETE', '/v1/images/attack/mount')).status).toBe(204)
    expect((await strata.request('DELETE', '/v1/images/attack')).status).toBe(200)
  })
})

describe('attributes that one header gives to 2,000 files', () => {
  let strata: StrataUnderTest
  beforeAll(async () => {
    strata = await StrataUnderTest.start({ environment: { STRATA_SNAPSHOTTER: 'erofs', STRATA_PREPARE: 'true' } })
  })
  afterAll(() => strata.dispose())
  guarded(() => strata)

  it('are kept once, in the store, on the node and in what is listed', async () => {
    const body = gzipSync(concat(...attributed(2_000), ZEROS))
    expect(body.length).toBeLessThan(20_000)
    expect((await strata.request('POST', '/v1/images?import=attributed', Readable.from([body]))).status).toBe(201)
    expect(
      Number(execFileSync('du', ['-s', '--block-size=1', strata.folder], { encoding: 'utf8' }).split('\t')[0]),
    ).toBeLessThan(32 * MEBIBYTE)
    const { path } = (await strata.request('POST', '/v1/images/attributed/mount')).json<{ path: string }>()
    for (const name of ['f0', 'f1999'])
      expect(lgetxattr(join(path, name), Buffer.from('user.n3'))?.equals(Buffer.alloc(65_000, 'v'))).toBe(true)
    await strata.request('DELETE', '/v1/images/attributed/mount')
    const listed = await strata.request('GET', '/v1/images/attributed/files?path=/&limit=10000')
    expect(listed.bytes.length).toBeLessThan(8 * MEBIBYTE)
    expect(listed.json<FileListView>()).toMatchObject({ total: 2_000, next: listed.json<FileListView>().files.length })
    await strata.request('DELETE', '/v1/images/attributed')
  })
})

describe('packed against us', () => {
  let strata: StrataUnderTest
  beforeAll(async () => {
    strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false' } })
  })
  afterAll(() => strata.dispose())
  const outside = guarded(() => strata)

  const tar = concat(file('a', 'x'), ZEROS)
  // Made where it is used: with so much memory of its own a process starts others slowly.
  const zeros = (): Buffer => concat(at({ name: 'zeros', size: 400 * MEBIBYTE }), Buffer.alloc(400 * MEBIBYTE), ZEROS)
  /** RFC 8878, 3.1.1.1.2: a window of 2 GiB. */
  const wideWindow = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00])
  const skippable = (size: number): Buffer => {
    const frame = Buffer.alloc(8 + size)
    frame.writeUInt32LE(0x184d2a50)
    frame.writeUInt32LE(size, 4)
    return frame
  }
  const emptyFrame = zstdCompressSync(Buffer.alloc(0))
  let gzipOfZeros: Buffer | undefined
  const gzipped = (): Buffer => (gzipOfZeros ??= gzipSync(zeros(), { level: 9 }))
  const BOMBS: [string, () => Buffer, RegExp][] = [
    ['gzip of zeros', gzipped, /more than 1000 times its size/],
    ['zstd of zeros', () => zstdCompressSync(zeros()), /more than 1000 times its size/],
    ['gzip in gzip, of zeros', () => gzipSync(gzipped(), { level: 9 }), /no tar|not a tar/],
    ['a zstd window of 2 GiB', () => wideWindow, /damaged|cut short/],
    ['skippable frames and nothing else', () => skippable(16 * MEBIBYTE), /unpacks to nothing/],
  ]
  for (const [door, query] of [
    ['as a tree', '?import=bomb'],
    ['as an archive', ''],
  ] as const) {
    it.each(BOMBS)(`%s, ${door}`, async (_, make, sentence) => {
      const bomb = make()
      const answer = await strata.request('POST', `/v1/images${query}`, Readable.from([bomb]))
      const { detail } = answer.json<Problem>()
      expect(answer.status, detail).toBeGreaterThanOrEqual(400)
      expect(answer.status, detail).toBeLessThan(500)
      if (query !== '') expect(detail).toMatch(sentence)
      expect(await strata.images()).toEqual([])
    })
  }

  it('a tar behind skippable frames and among empty members is a layer', async () => {
    for (const body of [
      concat(skippable(1000), zstdCompressSync(tar)),
      concat(Buffer.alloc(emptyFrame.length * 5_000, emptyFrame), zstdCompressSync(tar)),
      concat(...Array<Buffer>(10_000).fill(gzipSync(Buffer.alloc(0))), gzipSync(tar)),
    ]) {
      expect((await strata.request('POST', '/v1/images?import=fine', Readable.from([body]))).status).toBe(201)
    }
    await strata.cli(['rmi', 'fine'])
    await strata.request('POST', '/v1/gc')
  })

  it('a blob of a layout that is a link to the host’s file', async () => {
    const shadow = readFileSync('/etc/passwd')
    const digest = digestOf(shadow)
    const config = JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: [digest] },
    })
    const manifest = JSON.stringify({
      schemaVersion: 2,
      config: { mediaType: MEDIA.config, digest: digestOf(config), size: config.length },
      layers: [{ mediaType: MEDIA.layer, digest, size: shadow.length }],
    })
    const index = JSON.stringify({
      schemaVersion: 2,
      manifests: [{ mediaType: MEDIA.manifest, digest: digestOf(manifest), size: manifest.length }],
    })
    const path = (of: string): string => `blobs/sha256/${of.slice(7)}`
    const layout = concat(
      file('index.json', index),
      file(path(digestOf(config)), config),
      file(path(digestOf(manifest)), manifest),
      link(path(digest), '/etc/passwd'),
      ZEROS,
    )
    const answer = await strata.request('POST', '/v1/images', Readable.from([layout]))
    expect(answer.json<Problem>()).toMatchObject({
      code: 'archive_invalid',
      detail: expect.stringContaining('outside the archive') as string,
    })
  })

  // moby CVE-2026-41567
  it('programs of an image that have the names of the machine’s are started by nobody', async () => {
    const trojan = `#!/bin/sh\ntouch ${outside}/started\n`
    const programs = ['xz', 'bzip2', 'gzip', 'unpigz', 'zstd', 'tar', 'runc'].flatMap((name) =>
      ['bin', 'usr/bin', 'usr/sbin'].map((folder) => file(`${folder}/${name}`, trojan, { mode: 0o755 })),
    )
    const trojans = concat(...programs, ZEROS)
    for (const [form, pack] of [
      ['xz', ['xz', '-c']],
      ['bzip2', ['bzip2', '-c']],
      ['gzip', ['gzip', '-c']],
    ] as const) {
      const body = execFileSync(pack[0], pack.slice(1), { input: trojans })
      expect((await strata.request('POST', `/v1/images?import=trojan/${form}`, Readable.from([body]))).status).toBe(201)
      const root = (await strata.cli(['mount', `trojan/${form}`])).stdout.toString().trim()
      // Who looks for programs below the working folder, or in a PATH that begins there, would find
      // them.
      expect(readFileSync(join(root, 'usr/bin/xz'), 'utf8')).toBe(trojan)
      expect((await strata.request('GET', `/v1/images/${encodeURIComponent(`trojan/${form}`)}/export`)).status).toBe(
        200,
      )
      await strata.cli(['umount', `trojan/${form}`])
    }
  })

  it('an image without layers, and a config without rootfs', async () => {
    const image = (config: string): Buffer =>
      concat(
        file('c.json', config),
        file('manifest.json', JSON.stringify([{ Config: 'c.json', RepoTags: ['none:1'], Layers: [] }])),
        ZEROS,
      )
    expect(
      (
        await strata.request('POST', '/v1/images', Readable.from([image('{"architecture":"amd64","os":"linux"}')]))
      ).json<Problem>(),
    ).toMatchObject({ code: 'archive_invalid' })
    await strata.load(
      Readable.from([image('{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}')]),
    )
    const mounted = await strata.cli(['mount', 'none:1'])
    expect({ code: mounted.code, names: names(mounted.stdout.toString().trim()) }).toEqual({ code: 0, names: [] })
    const run = await strata.cli(['run', '--rm', 'none:1', '/bin/sh'])
    expect(run.code).toBe(127)
    await strata.cli(['umount', 'none:1'])
  })
})
