import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { gzipSync, zstdDecompressSync } from 'node:zlib'
import { ENTRY, TarReader } from '@strata/archive'
import { difference, makeArchive, makeLayer, openFixture, type Tree } from '@strata/archive/testing'
import type { DiffView, FileListView, FileView, HistoryView } from '@strata/api'
import { digestOf, hexOf, type DiffId, type Digest } from '@strata/oci'
import { keys } from '@strata/store'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { packedImage } from './testing/packed-image.js'
import { damage } from './testing/store-state.js'
import { StrataUnderTest, until } from './testing/strata.js'

/** A line of the listing that two independent extractors made. */
interface Line {
  readonly pathBase64: string
  readonly type: string
  readonly mode: string
  readonly uid: number
  readonly gid: number
  readonly mtime: number
  readonly size?: number
  readonly sha256?: string
  readonly target?: string
  readonly rdev?: [number, number]
}
const LISTING = new URL('../../../libs/archive/fixtures/docker20-odd.rootfs.jsonl.zst', import.meta.url)
const TYPES: Record<string, string> = { directory: 'dir' }

let strata: StrataUnderTest
let folder: string
let listing: Line[]
beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/strata-files-')
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false' } })
  listing = zstdDecompressSync(await readFile(LISTING))
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line)
})
afterAll(async () => {
  await strata.dispose()
  await rm(folder, { recursive: true, force: true })
})

const path = (ref: string, what: string, query = '') => `/v1/images/${encodeURIComponent(ref)}/${what}${query}`
const encoded = (bytes: Buffer) => [...bytes].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('')
const list = async (ref: string, at: Buffer | string, query = '') => {
  const answer = await strata.request('GET', path(ref, 'files', `?path=${encoded(Buffer.from(at))}${query}`))
  expect(answer.status, answer.bytes.toString()).toBe(200)
  return answer.json<FileListView>()
}
const read = async (ref: string, at: Buffer | string, query = '') =>
  strata.request('GET', path(ref, 'file', `?path=${encoded(Buffer.from(at))}${query}`))
const nameOf = ({ name, nameBase64 }: FileView) =>
  nameBase64 === undefined ? Buffer.from(name) : Buffer.from(nameBase64, 'base64')
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** All that the API shows of an image, as the listing has it. */
async function walk(ref: string, at: Buffer): Promise<Line[]> {
  const { self, files } = await list(ref, Buffer.concat([Buffer.from('/'), at]), '&limit=10000')
  const lines = at.length === 0 ? [await lineOf(ref, at, self)] : []
  for (const file of files) {
    const here = at.length === 0 ? nameOf(file) : Buffer.concat([at, Buffer.from('/'), nameOf(file)])
    lines.push(await lineOf(ref, here, file))
    if (file.type === 'directory') lines.push(...(await walk(ref, here)))
  }
  return lines
}

async function lineOf(ref: string, at: Buffer, file: FileView): Promise<Line> {
  const { type, uid, gid, mtime } = file
  const common = {
    pathBase64: at.toString('base64'),
    type: TYPES[type] ?? type,
    mode: `0o${file.mode.replace(/^0+(?=.)/, '')}`,
    uid,
    gid,
    mtime,
  }
  if (type === 'file') return { ...common, size: file.size, sha256: sha256((await read(ref, at)).bytes) }
  if (type === 'symlink') return { ...common, target: file.target! }
  return { ...common, ...(file.device ? { rdev: file.device } : {}) }
}

/** The same of a tar; further names have what their first has. */
function linesOf(tar: Buffer): Line[] {
  const lines = new Map<string, Line>()
  const types: Record<number, string> = {
    [ENTRY.file]: 'file',
    [ENTRY.directory]: 'dir',
    [ENTRY.symlink]: 'symlink',
    [ENTRY.char]: 'char',
    [ENTRY.block]: 'block',
    [ENTRY.fifo]: 'fifo',
  }
  const reader = new TarReader({
    entry(entry) {
      const name = entry.path.toString('latin1').replace(/^\.\/$|\/$/, '')
      const pathBase64 = Buffer.from(name, 'latin1').toString('base64')
      const type = types[entry.type]!
      const common = {
        pathBase64,
        type,
        mode: `0o${entry.mode.toString(8)}`,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
      }
      if (entry.type === ENTRY.hardlink) lines.set(name, { ...lines.get(entry.link.toString('latin1'))!, pathBase64 })
      else if (entry.type === ENTRY.file)
        lines.set(name, {
          ...common,
          size: entry.size,
          sha256: sha256(tar.subarray(entry.dataOffset, entry.dataOffset + entry.size)),
        })
      else if (entry.type === ENTRY.symlink) lines.set(name, { ...common, target: entry.link.toString() })
      else lines.set(name, { ...common, ...(type === 'char' ? { rdev: [entry.devMajor, entry.devMinor] } : {}) })
      return false
    },
    data: () => undefined,
    entryEnd: () => undefined,
  })
  reader.write(tar)
  reader.end()
  return [...lines.values()]
}

const sorted = (lines: Line[]) =>
  lines.sort((a, b) => Buffer.compare(Buffer.from(a.pathBase64, 'base64'), Buffer.from(b.pathBase64, 'base64')))
const known = () => listing.map((line) => Object.fromEntries(Object.entries(line).filter(([key]) => key !== 'path')))

describe.each(['docker20-odd.tar', 'skopeo-oci-gzip.tar', 'skopeo-oci-zstd.tar'] as const)('%s', (fixture) => {
  let ref: string
  beforeAll(async () => {
    for (const { id } of await strata.images())
      await strata.request('DELETE', path(id, '', '').replace(/\/$/, '?force'))
    const { images } = await strata.load(openFixture(fixture), '?name=fx/odd:3')
    ref = images[0]!.id
  })

  it('shows what two independent extractors made of it, and each file’s bytes', async () => {
    expect(sorted(await walk(ref, Buffer.alloc(0)))).toEqual(known())
  })

  it('is exported as that, the same bytes each time, and in parts', async () => {
    const whole = await strata.request('GET', path(ref, 'export'))
    expect(whole).toMatchObject({
      status: 200,
      headers: { 'content-length': `${whole.bytes.length}`, 'content-type': 'application/x-tar' },
    })
    expect(sorted(linesOf(whole.bytes))).toEqual(known())
    const again = await strata.cli(['export', ref])
    expect({ code: again.code, stderr: again.stderr, same: again.stdout.equals(whole.bytes) }).toEqual({
      code: 0,
      stderr: '',
      same: true,
    })
    for (const start of [0, 1, 100_000, whole.bytes.length - 1500]) {
      const part = await strata.request('GET', path(ref, 'export'), undefined, {
        headers: { range: `bytes=${start}-${start + 4999}`, 'if-range': String(whole.headers.etag) },
      })
      expect(part.status).toBe(206)
      expect(part.bytes.equals(whole.bytes.subarray(start, start + 5000))).toBe(true)
    }
    const file = join(folder, 'root.tar')
    expect(await strata.cli(['export', '-o', file, ref])).toMatchObject({ code: 0, stderr: '' })
    const { stdout } = await promisify(execFile)('tar', ['-tf', file, '--quoting-style=literal'], {
      encoding: 'latin1',
      maxBuffer: 1 << 24,
    })
    expect(stdout.trim().split('\n').length).toBe(listing.length)
  })

  it('gives any part of a file', async () => {
    const whole = await read(ref, '/bin/busybox')
    expect(whole.headers).toMatchObject({
      'content-length': '1982256',
      'accept-ranges': 'bytes',
      'content-type': 'application/octet-stream',
    })
    for (const [range, start, end] of [
      ['bytes=0-0', 0, 1],
      ['bytes=1000000-1000099', 1_000_000, 1_000_100],
      ['bytes=-7', 1_982_249, 1_982_256],
    ] as const) {
      const part = await strata.request('GET', path(ref, 'file', '?path=bin/busybox'), undefined, {
        headers: { range },
      })
      expect({ status: part.status, same: part.bytes.equals(whole.bytes.subarray(start, end)) }).toEqual({
        status: 206,
        same: true,
      })
    }
    expect((await strata.request('HEAD', path(ref, 'file', '?path=bin/busybox'))).bytes.length).toBe(0)
    expect(
      (
        await strata.request('GET', path(ref, 'file', '?path=bin/busybox'), undefined, {
          headers: { range: 'bytes=1982256-' },
        })
      ).status,
    ).toBe(416)
  })
})

describe('two images and their layers', () => {
  const before: Tree = new Map([
    ['etc', { folder: true }],
    ['etc/a', { content: 'old\n' }],
    ['etc/gone', { content: 'gone\n' }],
    ['link', { symlink: '/etc' }],
    ['loop', { symlink: 'loop' }],
    ['out', { symlink: '../../../../../etc/a' }],
  ])
  const after: Tree = new Map([
    ...[...before].filter(([name]) => name !== 'etc/gone'),
    ['etc/a', { content: 'newer\n' }],
    ['etc/new', { content: Buffer.alloc(1000, 'n') }],
  ])
  let layers: Buffer[]
  beforeAll(async () => {
    layers = [await makeLayer(before), await makeLayer(difference(before, after))]
    await strata.load(
      Readable.from([
        await makeArchive({ names: ['t/old:1'], layers: layers.slice(0, 1) }, { names: ['t/new:1'], layers }),
      ]),
    )
  })

  it('differ by what was added, changed and removed', async () => {
    const diff = (await strata.request('GET', path('t/old:1', 'diff', '?other=t/new:1'))).json<DiffView>()
    expect(diff).toEqual({
      added: { count: 1, bytes: 1000 },
      changed: { count: 1, bytes: 6 },
      removed: { count: 1, bytes: 5 },
      unread: { count: 0, bytes: 0 },
      changes: [
        { path: 'etc/a', kind: 'changed', type: 'file', before: 4, after: 6, aspects: ['size'] },
        { path: 'etc/gone', kind: 'removed', type: 'file', before: 5 },
        { path: 'etc/new', kind: 'added', type: 'file', after: 1000 },
      ],
    })
    expect((await strata.request('GET', path('t/new:1', 'diff', '?layer=1'))).json()).toEqual(diff)
    const pages: DiffView[] = []
    for (let query: string | undefined = ''; query !== undefined;) {
      const answer = await strata.request('GET', path('t/old:1', 'diff', `?other=t/new:1&limit=2${query}`))
      const page = answer.json<DiffView>()
      pages.push(page)
      query = page.next && `&after=${page.next}`
    }
    expect(pages).toEqual([
      { ...diff, changes: diff.changes.slice(0, 2), next: expect.any(String) as string },
      { changes: diff.changes.slice(2) },
    ])
    const older = await strata.request('GET', path('t/old:1', 'diff', '?other=t/new:1&offset=1'))
    expect(older.json()).toMatchObject({ code: 'bad_request', detail: expect.stringContaining('offset') as string })
    const { stdout, stderr } = await strata.cli(['diff', 't/old:1', 't/new:1'])
    expect(stdout.toString()).toBe('C /etc/a (4B -> 6B) size\nD /etc/gone (5B)\nA /etc/new (1kB)\n')
    expect(stderr).toBe('1 added (1kB), 1 changed (6B), 1 removed (5B)\n')
    expect((await strata.request('GET', path('t/old:1', 'diff'))).json()).toMatchObject({ code: 'bad_request' })
  })

  it('are shown layer by layer', async () => {
    const alone = await list('t/new:1', '/etc', '&layer=1')
    expect(alone.files.map(({ name, type }) => `${type} ${name}`)).toEqual(['file a', 'whiteout gone', 'file new'])
    expect((await read('t/new:1', '/etc/a', '&layer=0')).bytes.toString()).toBe('old\n')
    expect((await read('t/new:1', '/etc/a', '&layer=1')).bytes.toString()).toBe('newer\n')
    expect((await read('t/new:1', '/etc/gone', '&layer=1')).json()).toMatchObject({ code: 'bad_request' })
    expect((await read('t/new:1', '/etc/a', '&layer=2')).json()).toMatchObject({ code: 'not_found' })
    const { layers: known } = (await strata.request('GET', path('t/new:1', '').replace(/\/$/, ''))).json<{
      layers: { diffId: DiffId }[]
    }>()
    expect(alone.files.map(({ layer }) => layer)).toEqual(Array(3).fill(known[1]!.diffId))
    expect((await read('t/new:1', '/etc/a', `&layer=${hexOf(known[0]!.diffId).slice(0, 12)}`)).bytes.toString()).toBe(
      'old\n',
    )
    const { steps } = (await strata.request('GET', path('t/new:1', 'history'))).json<HistoryView>()
    expect(steps.map(({ layer }) => [layer!.diffId, layer!.entries, layer!.files, layer!.whiteouts])).toEqual([
      [known[0]!.diffId, 6, { count: 2, bytes: 9 }, 0],
      [known[1]!.diffId, 4, { count: 2, bytes: 1006 }, 1],
    ])
  })

  it('lead no path out of themselves', async () => {
    expect((await read('t/new:1', '/out')).bytes.toString()).toBe('newer\n')
    expect((await read('t/new:1', '/link/../etc/a')).bytes.toString()).toBe('newer\n')
    expect((await list('t/new:1', '/link')).path).toBe('/etc')
    const refused = async (at: string) =>
      (await strata.request('GET', path('t/new:1', 'file', `?path=${at}`))).json<{ code: string; detail: string }>()
    expect(await refused('/loop')).toMatchObject({
      code: 'bad_request',
      detail: expect.stringContaining('40 symbolic links') as string,
    })
    expect(await refused('/etc')).toMatchObject({ code: 'bad_request', detail: '"/etc" is a folder: it has no bytes' })
    expect(await refused('/etc/passwd')).toMatchObject({ code: 'not_found' })
    expect(await refused('/etc/a%00')).toMatchObject({ code: 'bad_request' })
    expect(await refused('%2e%2e%2f%2e%2e%2fetc%2fpasswd')).toMatchObject({ code: 'not_found' })
    expect(await refused('x'.repeat(5000))).toMatchObject({ code: 'bad_request' })
  })

  it('are shown also when the store has lost their index', async () => {
    const layer = await makeLayer(new Map([['kept', { content: 'kept\n' }]]))
    await strata.load(Readable.from([await makeArchive({ names: ['t/lost:1'], layers: [layer] })]))
    const store = await strata.store()
    const index = keys.index(digestOf(layer) as DiffId)
    await store.delete([index])
    expect((await list('t/lost:1', '/')).files.map(({ name }) => name)).toEqual(['kept'])
    expect(await store.stat(index)).toBeDefined()
    // And by a gateway that has not seen it, where the node has the layer already.
    await store.delete([index])
    await strata.stop()
    await strata.startProcesses()
    expect((await list('t/lost:1', '/')).files.map(({ name }) => name)).toEqual(['kept'])
    expect(await store.stat(index)).toBeDefined()
  })
})

describe('the command line', () => {
  it('lists, also a name that is no text, and writes files', async () => {
    await strata.load(openFixture('docker20-odd.tar'))
    const odd = listing
      .map(({ pathBase64 }) => Buffer.from(pathBase64, 'base64'))
      .find((each) => each.includes(0xff) || !Buffer.from(each.toString()).equals(each))!
    const above = odd.subarray(0, odd.lastIndexOf('/'))
    const { stdout } = await strata.cli(['ls', 'fx/odd:3', `/${above.toString()}`])
    expect(stdout.toString()).toMatch(/\\[23][0-7][0-7]/)
    const file = listing.find(({ pathBase64 }) => pathBase64 === odd.toString('base64'))!
    const script = `exec "$0" "$1" cat fx/odd:3 "/$(printf %s ${odd.toString('base64')} | base64 -d)"`
    const { stdout: bytes } = await promisify(execFile)(
      'sh',
      ['-c', script, process.execPath, new URL('../../../apps/cli/bin/strata.mjs', import.meta.url).pathname],
      { encoding: 'buffer', env: { PATH: process.env['PATH'] ?? '', STRATA_HOST: `unix://${strata.socket}` } },
    )
    expect(sha256(bytes)).toBe(file.sha256)
    const long = (await strata.cli(['ls', '-l', 'fx/odd:3', '/bin'])).stdout.toString()
    expect(long).toMatch(/^lrwxrwxrwx +0:0 +0 +2023-11-14 22:13 +[0-9a-f]{12} +\[ -> busybox$/m)
    expect(await strata.cli(['cat', 'fx/odd:3', '/nothing'])).toMatchObject({
      code: 1,
      stdout: Buffer.alloc(0),
      stderr: 'strata: Error response: there is no "/nothing"\n',
    })
    const history = await strata.cli(['history', 'fx/odd:3'])
    expect(history.stdout.toString().split('\n')[0]).toMatch(
      /^LAYER +CREATED +CREATED BY +SIZE +FILES +WHITEOUTS +COMMENT$/,
    )
  })
})

describe('a large gzip layer', () => {
  const MEBIBYTE = 1024 * 1024
  /** Hex digits of random bytes pack to half, in blocks with codes of their own. */
  const files = new Map(
    Array.from({ length: 12 }, (_, n) => [
      `file-${String(n).padStart(2, '0')}`,
      { content: Buffer.from(randomBytes(MEBIBYTE).toString('hex')) },
    ]),
  )
  let tar: Buffer
  let packed: Buffer
  let key: string
  let blob: Digest
  beforeAll(async () => {
    tar = await makeLayer(files)
    packed = gzipSync(tar, { level: 1 })
    blob = digestOf(packed)
    key = keys.checkpoints(blob)
    await strata.load(Readable.from([await packedImage('t/packed:1', [packed], [tar])]))
  })
  const expectFiles = async (...numbers: number[]) => {
    for (const number of numbers) {
      const name = `file-${String(number).padStart(2, '0')}`
      expect((await read('t/packed:1', name)).bytes.equals(files.get(name)!.content), name).toBe(true)
    }
  }

  it('is read right also where its checkpoints are damaged, gone or false', async () => {
    const store = await strata.store()
    const { bytes } = (await store.read(key, MEBIBYTE))!
    const rows = bytes.readUInt32LE(12)
    // Each row's window is another's, as if somebody had put it there.
    const swapped = Buffer.from(bytes)
    for (let row = 0; row < rows; row++)
      bytes.copy(swapped, 64 + row * 64 + 16, 64 + (rows - 1 - row) * 64 + 16, 64 + (rows - 1 - row) * 64 + 28)
    for (const other of [Buffer.alloc(1000), undefined, swapped]) {
      await store.delete([key])
      if (other) await store.create(key, other)
      await expectFiles(11, 4)
    }
    await strata.stop()
    await store.delete([key])
    await store.create(key, bytes)
    await strata.startProcesses()
  })

  it('is read from its checkpoints, which are under 1 % of it: also where what is before them is damaged', async () => {
    const store = await strata.store()
    const size = (await store.stat(key))!.size
    expect(size).toBeGreaterThan(50_000)
    expect(size).toBeLessThan(tar.length / 100)
    await expectFiles(11, 4, 0)
    const part = await strata.request('GET', path('t/packed:1', 'file', '?path=file-05'), undefined, {
      headers: { range: 'bytes=1000000-1000999' },
    })
    expect(part.bytes.equals(files.get('file-05')!.content.subarray(1_000_000, 1_001_000))).toBe(true)
    await damage(strata, blob, Buffer.concat([packed.subarray(0, 1000), Buffer.alloc(1000), packed.subarray(2000)]))
    await expectFiles(11)
    // That the damage is one to who reads from the beginning: it is no deflate stream, or one of
    // other bytes.
    expect(
      await read('t/packed:1', 'file-00').then(
        ({ bytes }) => bytes.equals(files.get('file-00')!.content),
        () => false,
      ),
    ).toBe(false)
  })

  it('goes with its checkpoints', async () => {
    const store = await strata.store()
    await store.create(key, Buffer.alloc(100))
    await strata.request('DELETE', path('t/packed:1', '').replace(/\/$/, ''))
    await strata.request('POST', '/v1/gc')
    expect(await store.stat(key)).toBeUndefined()
  })
})

describe('a layer that came in two packings', () => {
  it('is read from the one that is there', async () => {
    const tar = await makeLayer(new Map([['once', { content: 'the same' }]]))
    for (const [name, blob] of [
      ['fx/plain', tar],
      ['fx/packed', gzipSync(tar)],
    ] as const) {
      await strata.load(Readable.from([await packedImage(`${name}:1`, [blob], [tar])]))
      expect((await read(`${name}:1`, '/once')).bytes.toString()).toBe('the same')
      expect((await strata.request('DELETE', `/v1/images/${encodeURIComponent(`${name}:1`)}`)).status).toBe(200)
      expect((await strata.request('POST', '/v1/gc')).status).toBe(200)
    }
  })
})

describe('a reader that leaves', () => {
  it('ends the work, and leaves nothing open', async () => {
    const content = Buffer.alloc(64 * 1024 * 1024, 'x')
    await strata.load(
      Readable.from([
        await makeArchive({ names: ['t/big:1'], layers: [await makeLayer(new Map([['big', { content }]]))] }),
      ]),
    )
    const gone = new AbortController()
    const answer = await strata.open('GET', path('t/big:1', 'file', '?path=big'), undefined, { signal: gone.signal })
    answer.on('error', () => undefined)
    answer.once('data', () => gone.abort())
    answer.resume()
    await new Promise((resolve) => answer.once('close', resolve))
    const open = async () =>
      (
        await promisify(execFile)('sh', [
          '-c',
          `ls -l /proc/${strata.pid('gateway')}/fd | grep -c ${strata.data}/store/objects/data || true`,
        ])
      ).stdout.trim()
    await until(async () => (await open()) === '0', 'no blob is open')
  })
})
