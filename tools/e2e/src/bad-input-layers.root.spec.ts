import { existsSync, readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { block, concat, file, header, pax, paxHeader, ZEROS, type HeaderFields } from '@strata/archive/testing'
import type { Problem } from '@strata/api'
import { digestOf } from '@strata/oci'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { guarded } from './testing/guard.js'
import { StrataUnderTest } from './testing/strata.js'

let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'true' } })
})
afterAll(() => strata.dispose())
const outside = guarded(() => strata)

const at = (fields: HeaderFields): Buffer => header({ uid: 0, gid: 0, ...fields })
const dir = (name: string): Buffer => at({ name, type: '5', mode: 0o755 })
const link = (name: string, target: string): Buffer => at({ name, type: '2', link: target })

/** An image whose one layer is the tar of these parts, plain or packed. */
function imageOf(parts: readonly Buffer[], pack: (tar: Buffer) => Buffer, diffId?: string): Readable {
  const tar = concat(...parts, ZEROS)
  const config = JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: [diffId ?? digestOf(tar)] },
  })
  const manifest = JSON.stringify([{ Config: 'config.json', RepoTags: ['bad/layer:1'], Layers: ['layer.tar'] }])
  return Readable.from([
    concat(file('config.json', config), file('layer.tar', pack(tar)), file('manifest.json', manifest), ZEROS),
  ])
}
const plain = (tar: Buffer): Buffer => tar
const gzip = (tar: Buffer): Buffer => gzipSync(tar)

async function refused(body: Readable): Promise<Problem> {
  const images = await strata.images()
  const answer = await strata.request('POST', '/v1/images', body)
  const problem = answer.json<Problem>()
  expect(answer.status, JSON.stringify(problem)).toBeGreaterThanOrEqual(400)
  expect(answer.status, JSON.stringify(problem)).toBeLessThan(500)
  expect(answer.headers['content-type']).toBe('application/problem+json')
  expect(problem.detail).toMatch(/^[^\n]{10,1200}$/)
  expect(await strata.images()).toEqual(images)
  return problem
}

const REFUSED: [string, () => Buffer[]][] = [
  ['a name with .. out of the root', () => [file('../escape', 'x')]],
  ['.. in the middle, out of the root', () => [file('a/../../escape', 'x')]],
  ['a hard link to ..', () => [at({ name: 'l', type: '1', link: '../../../etc/passwd' })]],
  ['a file below its own symbolic link out', () => [link('out', outside), file('out/canary', 'dead')]],
  ['a file below links in a ring', () => [link('a', 'b'), link('b', 'a'), file('b/f', 'x')]],
  ['a root that is a symbolic link', () => [link('.', outside)]],
  ['a whiteout of nothing', () => [file('.wh.', '')]],
  ['a whiteout of .', () => [file('.wh..', '')]],
  ['a whiteout of ..', () => [file('a/.wh...', '')]],
  ['a file below a whiteout', () => [file('.wh.a/b', 'x')]],
  ['a device that Linux cannot hold', () => [at({ name: 'dev', type: '3', major: 0o7777777, minor: 1 })]],
  [
    'a component of 256 bytes',
    () => [file('x'.repeat(90), ''), paxHeader(pax('path', 'y'.repeat(256))), file('x', '')],
  ],
  ['a path of 5,000 bytes', () => [paxHeader(pax('path', 'ab/'.repeat(1700))), file('x', '')]],
  ['a path 1,100 folders deep', () => [paxHeader(pax('path', `${'a/'.repeat(1100)}f`)), file('x', '')]],
  ['a name with a NUL', () => [paxHeader(pax('path', 'a\0b')), file('x', '')]],
  ['a symbolic link to nowhere', () => [link('l', '')]],
  ['a hard link to itself', () => [at({ name: 'l', type: '1', link: 'l' })]],
  ['a hard link to a folder', () => [dir('d'), at({ name: 'l', type: '1', link: 'd' })]],
  ['an unknown type', () => [at({ name: 'x', type: 'Z' })]],
  ['a wrong checksum', () => [file('a', 'x'), Buffer.alloc(512, 'q')]],
  ['a negative size', () => [at({ name: 'x', raw: { size: '\xff'.repeat(12) } })]],
  ['a file larger than its tar', () => [at({ name: 'x', size: 10_000_000 }), block('short')]],
]

describe.each([
  ['plain', plain],
  ['gzip', gzip],
] as const)('a %s layer with', (_, pack) => {
  it.each(REFUSED)('%s', async (__, parts) => {
    const { code, detail } = await refused(imageOf(parts(), pack))
    expect(['layer_invalid', 'archive_invalid', 'archive_truncated', 'limit_exceeded'], detail).toContain(code)
  })

  it('absolute names are names of the image', async () => {
    await strata.load(
      imageOf(
        [
          file(`${outside}/canary`, 'inside'),
          link('abs', `${outside}/canary`),
          at({ name: 'hard', type: '1', link: `${outside}/canary` }),
        ],
        pack,
      ),
    )
    const mounted = await strata.cli(['mount', 'bad/layer:1'])
    expect(mounted).toMatchObject({ code: 0, stderr: '' })
    expect(readFileSync(`${mounted.stdout.toString().trim()}${outside}/canary`, 'utf8')).toBe('inside')
    await strata.cli(['umount', 'bad/layer:1'])
    expect((await strata.cli(['rmi', 'bad/layer:1'])).code).toBe(0)
  })
})

it('a layer that is no tar', async () => {
  const text = Buffer.alloc(2048, 'x')
  const { code, detail } = await refused(imageOf([], () => text, digestOf(text)))
  expect(['layer_invalid', 'archive_invalid'], detail).toContain(code)
})

describe('a packed layer', () => {
  it('of another diffID', async () => {
    const { code } = await refused(imageOf([file('a', 'x')], gzip, digestOf('another')))
    expect(code).toBe('digest_mismatch')
  })

  it('cut off', async () => {
    const { code, detail } = await refused(
      imageOf([file('a', Buffer.alloc(200_000, 'x'))], (tar) => gzipSync(tar).subarray(0, 150)),
    )
    expect(['layer_invalid', 'archive_truncated', 'archive_invalid'], detail).toContain(code)
  })

  it('that unpacks to a thousand times its size and more', async () => {
    const { code, detail } = await refused(
      imageOf([file('a', Buffer.alloc(300_000_000))], (tar) => gzipSync(tar, { level: 9 })),
    )
    expect(code, detail).toBe('limit_exceeded')
  })
})

it('the service is alive, and no file outside was made', async () => {
  expect(existsSync('/escape') || existsSync(`${outside}/escape`)).toBe(false)
  expect((await strata.request('GET', '/v1/health/ready')).status).toBe(200)
})
