import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { busyboxTree, concat, file, header, makeLayer, pax, paxHeader, ZEROS } from '@strata/archive/testing'
import type { ImageView, JobView, Problem } from '@strata/api'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { guarded } from './testing/guard.js'
import { settledStore } from './testing/store-state.js'
import { StrataUnderTest, until } from './testing/strata.js'

let strata: StrataUnderTest
let folder: string
beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/strata-import-')
  strata = await StrataUnderTest.start()
})
afterAll(async () => {
  await strata.dispose()
  await rm(folder, { recursive: true, force: true })
})
guarded(() => strata)

const sha256 = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const tree = concat(header({ name: 'etc/', type: '5', mode: 0o755 }), file('etc/motd', 'hello\n'), ZEROS)
const inspect = async (ref: string) =>
  (await strata.request('GET', `/v1/images/${encodeURIComponent(ref)}`)).json<ImageView>()
const query = (parameters: Record<string, string | string[]>) =>
  `?${new URLSearchParams(Object.entries(parameters).flatMap(([key, value]) => [value].flat().map((each): [string, string] => [key, each]))).toString()}`
const send = (body: Buffer, parameters: Record<string, string | string[]>, options: { length?: number } = {}) =>
  strata.request(
    'POST',
    `/v1/images${query({ platform: 'linux/amd64', ...parameters })}`,
    Readable.from([body]),
    options,
  )
async function imported(
  body: Buffer,
  parameters: Record<string, string | string[]>,
  options: { length?: number } = {},
): Promise<ImageView> {
  const answer = await send(body, parameters, options)
  expect(answer.status, answer.bytes.toString()).toBe(201)
  return inspect(answer.json<{ images: [{ digest: string }] }>().images[0].digest)
}
const cli = async (args: readonly string[], input?: Buffer) => {
  const { code, stdout, stderr } = await strata.cli(
    ['import', '-q', ...args],
    input ? { input: Readable.from([input]) } : {},
  )
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return stdout.toString().trim()
}

describe('an image of a tree', () => {
  it('runs', async () => {
    const root = await makeLayer(busyboxTree().set('www', { folder: true }).set('www/index', { content: 'it works\n' }))
    for (const [name, body] of [
      ['plain', root],
      ['packed', gzipSync(root)],
    ] as const) {
      await cli(
        ['-c', 'ENTRYPOINT ["/bin/busybox"]', '-c', 'CMD ["cat", "index"]', '-c', 'WORKDIR /www', '-', `runs/${name}`],
        body,
      )
      const { code, stdout, stderr } = await strata.cli(['run', '--rm', `runs/${name}`])
      expect({ code, stdout: stdout.toString(), stderr }).toEqual({ code: 0, stdout: 'it works\n', stderr: '' })
    }
  })

  it('of nothing is an empty root', async () => {
    for (const [name, body] of [
      ['plain', Buffer.alloc(10_240)],
      ['short', ZEROS],
      ['packed', gzipSync(Buffer.alloc(10_240))],
    ] as const) {
      await cli(['-', `empty/${name}`], body)
      const { layers } = await inspect(`empty/${name}`)
      expect(layers).toHaveLength(1)
      const { stdout } = await strata.cli(['mount', `empty/${name}`])
      expect(readdirSync(stdout.toString().trim())).toEqual([])
      await strata.cli(['umount', `empty/${name}`])
    }
  })

  it('has the same digests however it comes, on any machine', async () => {
    const path = join(folder, 'tree.tar')
    writeFileSync(path, tree)
    const words = [
      '-c',
      'ENV a=1 b="2 3"',
      '-c',
      'LABEL z=1 a=2',
      '-m',
      'of a test',
      '--platform',
      'linux/arm/v7',
      '--timestamp',
      '1700000000',
    ]
    const ids = [await cli([...words, path, 'same/a']), await cli([...words, '-', 'same/b'], tree)]
    const config =
      '{"architecture":"arm","comment":"of a test","config":{"Env":["a=1","b=2 3"],"Labels":{"a":"2","z":"1"}},"created":"2023-11-14T22:13:20Z","history":[{"created":"2023-11-14T22:13:20Z","comment":"of a test"}],' +
      `"os":"linux","rootfs":{"type":"layers","diff_ids":["${sha256(tree)}"]},"variant":"v7"}`
    expect(ids).toEqual([sha256(Buffer.from(config)), sha256(Buffer.from(config))])
    expect((await inspect('same/a')).digest).toBe((await inspect('same/b')).digest)
    // Without a word: of the beginning of time, and never of now.
    const [first, second] = [
      await imported(tree, { import: 'same/c' }),
      await imported(tree, { import: 'same/d' }, { length: tree.length }),
    ]
    expect(first).toMatchObject({
      id: second.id,
      digest: second.digest,
      created: '1970-01-01T00:00:00Z',
      names: ['same/c:latest'],
      architecture: 'amd64',
      history: [{ comment: 'Imported from -' }],
    })
    expect(first.id).toBe('sha256:15ed76cc70b90334a49a9f46f0a71806282fa1f18bdff52fc7af25c05d43070a')
  })

  it('keeps what came packed byte for byte', async () => {
    for (const [name, body, mediaType] of [
      ['gzip', gzipSync(tree), 'application/vnd.oci.image.layer.v1.tar+gzip'],
      ['zstd', zstdCompressSync(tree), 'application/vnd.oci.image.layer.v1.tar+zstd'],
      [
        'many',
        concat(gzipSync(tree.subarray(0, 700)), gzipSync(tree.subarray(700))),
        'application/vnd.oci.image.layer.v1.tar+gzip',
      ],
    ] as const) {
      const image = await imported(body, { import: `packed/${name}` })
      expect(image.layers).toMatchObject([{ digest: sha256(body), diffId: sha256(tree), size: body.length, mediaType }])
      const saved = await strata.cli(['save', `packed/${name}`])
      expect(saved.stdout.includes(body)).toBe(true)
    }
  })

  it.each(['bzip2', 'xz'])('is unpacked where no layer is packed so: %s, by every source', async (program) => {
    const large = concat(file('random', randomBytes(2_000_000)), ZEROS)
    const path = join(folder, `tree.${program}`)
    for (const plain of [tree, large]) {
      const body = execFileSync(program, ['--stdout', '-1'], { input: plain, maxBuffer: 2 * plain.length + 1_000_000 })
      writeFileSync(path, body)
      const images = [
        await imported(body, { import: '' }),
        await imported(body, { import: '' }, { length: body.length }),
        await imported(plain, { import: '' }),
      ]
      for (const { digest, layers } of images) {
        expect(digest).toBe(images[2]!.digest)
        expect(layers).toMatchObject([{ digest: sha256(plain), diffId: sha256(plain), size: plain.length }])
      }
      await cli(['--platform', 'linux/amd64', path, `unpacked/${program}`])
      expect((await inspect(`unpacked/${program}`)).digest).toBe(images[2]!.digest)
    }
  })

  it('large, by every source', async () => {
    const large = concat(file('big', Buffer.alloc(5_000_000, 'some bytes')), ZEROS)
    for (const body of [large, gzipSync(large, { level: 0 })]) {
      const path = join(folder, 'large.tar')
      writeFileSync(path, body)
      const ids = [
        (await imported(body, { import: '', timestamp: '1' })).id,
        (await imported(body, { import: '', timestamp: '1' }, { length: body.length })).id,
        await cli(['--timestamp', '1', '--platform', 'linux/amd64', path]),
      ]
      expect(new Set(ids).size).toBe(1)
      expect((await inspect(ids[0]!)).layers).toMatchObject([{ digest: sha256(body), diffId: sha256(large) }])
    }
  })

  it('has what the changes say', async () => {
    const image = await imported(tree, {
      import: 'changes/all',
      change: [
        'CMD ["/bin/sh"]',
        'ENTRYPOINT exec x',
        'ENV a b c',
        'EXPOSE 80 53/udp',
        'HEALTHCHECK NONE',
        'LABEL k="v w"',
        'ONBUILD RUN x',
        'STOPSIGNAL SIGINT',
        'USER 1:2',
        'VOLUME /v',
        'WORKDIR w',
      ],
    })
    expect(image.config).toEqual({
      cmd: ['/bin/sh'],
      entrypoint: ['/bin/sh', '-c', 'exec x'],
      env: ['a=b c'],
      exposedPorts: ['53/udp', '80/tcp'],
      labels: { k: 'v w' },
      stopSignal: 'SIGINT',
      user: '1:2',
      volumes: ['/v'],
      workdir: '/w',
    })
  })

  it('is a job that can be named and followed', async () => {
    const job = '6ad3a6e7-3f0e-4a43-9f4c-1b0e6c1c0a01'
    expect((await send(gzipSync(tree), { import: 'a/job:1', job, wait: 'false' })).status).toBe(202)
    const view = async () => (await strata.request('GET', `/v1/jobs/${job}`)).json<JobView>()
    await until(async () => (await view()).state === 'completed', 'the import is done')
    expect(await view()).toMatchObject({ kind: 'import', result: { images: [{ names: ['a/job:1'], layers: 1 }] } })
    expect((await send(tree, { import: 'a/job:2', job })).status).toBe(409)
  })
})

it('outlives the death of everything, once its bytes are in', async () => {
  const body = gzipSync(concat(file('big', Buffer.alloc(20_000_000, 'some bytes')), ZEROS))
  const job = 'd0f1a7be-3c56-4b7f-8a7e-5a3b8c1e9f02'
  expect((await send(body, { import: 'dies/and:lives', change: 'ENV A=1', job, wait: 'false' })).status).toBe(202)
  await strata.stop('SIGKILL')
  await strata.startProcesses()
  await until(
    async () => (await strata.request('GET', `/v1/jobs/${job}`)).json<JobView>().state === 'completed',
    'the import is done',
  )
  expect(await inspect('dies/and:lives')).toMatchObject({
    config: { env: ['A=1'] },
    layers: [{ digest: sha256(body) }],
  })
  await settledStore(strata)
})

describe('what is refused leaves nothing', () => {
  let before: string[]
  beforeAll(async () => {
    await strata.request('POST', '/v1/gc')
    before = await settledStore(strata)
  })
  const long = concat(paxHeader(pax('path', 'n'.repeat(4097))), file('a', 'x'), ZEROS)
  const deep = concat(paxHeader(pax('path', 'd/'.repeat(1025))), file('a', 'x'), ZEROS)
  const cut = concat(file('a', 'x'.repeat(2000)))
  it.each<[string, Buffer, Record<string, string | string[]>, string, RegExp]>([
    ['no bytes at all', Buffer.alloc(0), {}, 'archive_invalid', /the upload is empty/],
    ['text', Buffer.from('hello, I am no tar\n'.repeat(100)), {}, 'layer_invalid', /this is not a tar/],
    ['one byte', Buffer.from('x'), {}, 'layer_invalid', /this is not a tar/],
    ['a tar that is cut', cut.subarray(0, 1000), {}, 'layer_invalid', /in the middle of an entry/],
    [
      'a tar that is damaged',
      concat(file('a', 'x'), Buffer.alloc(512, 'x')),
      {},
      'layer_invalid',
      /its checksum is wrong/,
    ],
    ['gzip of text', gzipSync('hello'.repeat(500)), {}, 'layer_invalid', /this is not a tar/],
    ['gzip that is cut', gzipSync(tree).subarray(0, 100), {}, 'layer_invalid', /gzip stream is cut short/],
    ['bytes behind a gzip member', concat(gzipSync(tree), Buffer.from('rubbish')), {}, 'layer_invalid', /damaged/],
    [
      'a bomb',
      gzipSync(concat(file('zeros', Buffer.alloc(100_000_000)), ZEROS), { level: 9 }),
      {},
      'limit_exceeded',
      /unpacks to more than 1000 times its size/,
    ],
    ['a long name', long, {}, 'limit_exceeded', /more than 4096 bytes/],
    ['a long name, packed', gzipSync(long), {}, 'limit_exceeded', /more than 4096 bytes/],
    ['a deep name', deep, {}, 'limit_exceeded', /more than 1024 components/],
    ['an unknown instruction', tree, { change: 'RUN rm -rf /' }, 'bad_request', /^RUN is not a valid change command/],
    [
      'a change that is not valid',
      tree,
      { change: ['ENV a=b', 'ENV a'] },
      'bad_request',
      /^the change "ENV a" is not valid: ENV must have two arguments/,
    ],
    ['a name that is none', tree, { import: '../../etc' }, 'name_invalid', /is not an image name/],
    ['a name with a digest', tree, { import: `x@sha256:${'0'.repeat(64)}` }, 'bad_request', /has a digest/],
    ['a platform that is none', tree, { platform: '../../x' }, 'bad_request', /platform/],
    ['a time that is none', tree, { timestamp: 'now' }, 'bad_request', /timestamp/],
    ['two names', tree, { name: 'b' }, 'bad_request', /in import=/],
  ])('%s', async (_, body, parameters, code, sentence) => {
    const images = await strata.images()
    const answer = await send(body, { import: 'bad/tree:1', ...parameters })
    const problem = answer.json<Problem>()
    expect({ status: answer.status, code: problem.code }, problem.detail).toEqual({ status: problem.status, code })
    expect(problem.detail).toMatch(sentence)
    await settledStore(strata)
    expect(await strata.images()).toEqual(images)
  })

  it('nor does a packed one, which is a blob before it is unpacked, once nobody needs it', async () => {
    await strata.request('POST', '/v1/gc')
    expect(await settledStore(strata)).toEqual(before)
  })

  it('words of an import in a load', async () => {
    const answer = await strata.request('POST', '/v1/images?change=CMD%20x', createReadStream(join(folder, 'tree.tar')))
    expect(answer.json<Problem>()).toMatchObject({
      code: 'bad_request',
      detail: expect.stringContaining('belong to an import') as string,
    })
  })

  it('and a name that was there stays what it was', async () => {
    const { id } = await imported(tree, { import: 'kept:1' })
    expect((await send(gzipSync('no tar'), { import: 'kept:1' })).status).toBe(400)
    expect((await inspect('kept:1')).id).toBe(id)
    expect(readFileSync(join(folder, 'tree.tar')).equals(tree)).toBe(true)
  })
})
