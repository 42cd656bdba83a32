import { PassThrough, Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { concat, file, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import type { Problem } from '@strata/api'
import { digestOf } from '@strata/oci'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { guarded } from './testing/guard.js'
import { StrataUnderTest } from './testing/strata.js'

/** Every limit of docs/configuration.md, far below its default. */
const LIMITS = {
  STRATA_MAX_ARCHIVE_BYTES: '3000000',
  STRATA_MAX_ARCHIVE_ENTRIES: '10',
  STRATA_UPLOAD_IDLE_MS: '3000',
  STRATA_MAX_LAYER_ENTRIES: '20',
  STRATA_MAX_PATH_BYTES: '120',
  STRATA_MAX_PATH_DEPTH: '5',
  STRATA_MAX_INDEX_BYTES: '40000',
  STRATA_MAX_RATIO: '30',
  STRATA_MAX_JSON_BYTES: '1000',
  STRATA_MAX_ARCHIVE_NAMES: '2',
}
let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false', ...LIMITS } })
})
afterAll(() => strata.dispose())
guarded(() => strata)

const many = (count: number): Buffer => concat(...Array.from({ length: count }, (_, n) => file(`f${n}`, 'x')), ZEROS)
const named = (path: string): Buffer => concat(paxHeader(pax('path', path)), file('f', 'x'), ZEROS)
const link = (target: string): Buffer => concat(paxHeader(pax('linkpath', target)), file('f', '', { type: '2' }), ZEROS)
/** A global header of 10,000 bytes of attributes, and what it is for. */
const attributed = (count: number): Buffer =>
  concat(paxHeader(pax('SCHILY.xattr.user.a', 'v'.repeat(10_000)), 'g'), many(count))
const sparse = (size: number): Buffer => concat(file('big', Buffer.alloc(size)), ZEROS)
function archive(
  layer: Buffer,
  {
    diffId = digestOf(layer),
    more = '',
    names = ['limits:1'],
  }: { diffId?: string; more?: string; names?: string[] } = {},
): Buffer {
  const config = JSON.stringify({
    architecture: 'amd64',
    os: 'linux',
    more,
    rootfs: { type: 'layers', diff_ids: [diffId] },
  })
  return concat(
    file('config.json', config),
    file('layer.tar', layer),
    file('manifest.json', JSON.stringify([{ Config: 'config.json', RepoTags: names, Layers: ['layer.tar'] }])),
    ZEROS,
  )
}
const images = (count: number): Buffer =>
  concat(
    ...Array.from({ length: count }, (_, n) =>
      file(`${n}.json`, JSON.stringify({ architecture: 'amd64', os: 'linux', n, rootfs: { type: 'layers' } })),
    ),
    file(
      'manifest.json',
      JSON.stringify(Array.from({ length: count }, (_, n) => ({ Config: `${n}.json`, Layers: [] }))),
    ),
    ZEROS,
  )
const packed = (tar: Buffer): Buffer => archive(gzipSync(tar), { diffId: digestOf(tar) })

it('what is within them all is taken', async () => {
  for (const body of [
    archive(many(19)),
    packed(many(19)),
    archive(named('a/b/c/d/e')),
    archive(attributed(3)),
    archive(many(1), { names: ['limits:1', 'limits:2'] }),
    gzipSync(archive(link('l'.repeat(120)))),
  ]) {
    expect((await strata.request('POST', '/v1/images', Readable.from([body]))).status).toBe(201)
  }
})

it.each<[name: string, body: Buffer, query: string, sentence: RegExp]>([
  [
    'bytes of an archive',
    concat(file('a', Buffer.alloc(3_000_001)), ZEROS),
    '',
    /^the archive has more than 3000000 bytes/,
  ],
  [
    'bytes of an archive, packed',
    gzipSync(concat(file('a', Buffer.alloc(3_000_001)), ZEROS)),
    '',
    /^the archive has more than 3000000 bytes/,
  ],
  [
    'bytes of a tree',
    concat(file('a', Buffer.alloc(3_000_001)), ZEROS),
    '?import=x',
    /^the archive has more than 3000000 bytes/,
  ],
  ['entries of an archive', many(11), '', /more than 10 entries/],
  ['a name in an archive', named('n'.repeat(121)), '', /more than 120 bytes/],
  ['a deep name in an archive', named('a/b/c/d/e/f'), '', /more than 5 components/],
  ['entries of a layer', archive(many(21)), '', /more than 20 entries/],
  ['entries of a packed layer', packed(many(21)), '', /more than 20 entries/],
  ['entries of a tree', many(21), '?import=x', /more than 20 entries/],
  ['a name in a layer', archive(named('n'.repeat(121))), '', /more than 120 bytes/],
  ['a link in a packed layer', packed(link('n'.repeat(121))), '', /more than 120 bytes/],
  ['a deep name in a packed layer', packed(named('a/b/c/d/e/f')), '', /more than 5 components/],
  ['the index of a layer', archive(attributed(4)), '', /index has more than 40000 bytes/],
  ['the index of a packed layer', packed(attributed(4)), '', /index has more than 40000 bytes/],
  ['the index of a tree', attributed(4), '?import=x', /index has more than 40000 bytes/],
  ['the ratio of a layer', packed(sparse(30_000_000)), '', /unpacks to more than 30 times its size/],
  ['the ratio of a tree', gzipSync(sparse(30_000_000)), '?import=x', /unpacks to more than 30 times its size/],
  [
    'names of an archive',
    archive(many(1), { names: ['limits:1', 'limits:2', 'limits:3'] }),
    '',
    /^the archive has 3 names; the limit is 2/,
  ],
  ['images of an archive', images(3), '', /^the archive has 3 images; the limit is 2/],
  [
    'JSON',
    archive(many(1), { more: 'x'.repeat(1000) }),
    '',
    /config\.json has 1\d\d\d bytes; the limit for JSON is 1000/,
  ],
])('%s', async (_, body, query, sentence) => {
  const images = await strata.images()
  const answer = await strata.request('POST', `/v1/images${query}`, Readable.from([body]))
  const { code, detail } = answer.json<Problem>()
  expect(code, detail).toBe('limit_exceeded')
  expect(detail).toMatch(sentence)
  expect(await strata.images()).toEqual(images)
})

it('a client that sends nothing', async () => {
  const body = new PassThrough()
  body.write(many(1).subarray(0, 512))
  const answer = await strata.request('POST', '/v1/images', body)
  expect(answer.json<Problem>()).toMatchObject({
    code: 'upload_interrupted',
    detail: 'no byte of the upload came for 3 seconds',
  })
  body.destroy()
})
