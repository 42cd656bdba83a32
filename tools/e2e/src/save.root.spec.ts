import { spawn } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { openFixture } from '@strata/archive/testing'
import { digestOf } from '@strata/oci'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CLI, INHERITED, StrataUnderTest } from './testing/strata.js'

let strata: StrataUnderTest
let folder: string
beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/strata-save-')
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false' } })
  await strata.load(openFixture('docker20-multi.tar.gz'))
})
afterAll(async () => {
  await strata.dispose()
  await rm(folder, { recursive: true, force: true })
})

const path = (ref: string, query = '') => `/v1/archive?image=${encodeURIComponent(ref)}${query}`
const save = async (...args: string[]) => {
  const { code, stderr, stdout } = await strata.cli(['save', ...args])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return stdout
}
const removeAll = async () => {
  for (const { id } of await strata.images()) await strata.request('DELETE', `/v1/images/${id}?force`)
}
const summaries = async () => (await strata.images()).map(({ id, digest, names }) => ({ id, digest, names }))

describe('an archive that is saved', () => {
  it.each(['docker', 'oci'])('%s: the same bytes each time, and the same images when it is loaded', async (format) => {
    const before = await summaries()
    const names = before.flatMap((image) => image.names)
    const file = join(folder, `${format}.tar`)
    await save('--format', format, '-o', file, ...names)
    const bytes = await readFile(file)
    expect((await save('--format', format, ...names)).equals(bytes)).toBe(true)
    await removeAll()
    await strata.load(createReadStream(file))
    expect(await summaries()).toEqual(before)
    expect((await readdir(folder)).filter((name) => name.endsWith('.part'))).toEqual([])
  })

  it('an image that came packed goes out as it came', async () => {
    await removeAll()
    await strata.load(openFixture('skopeo-oci-zstd.tar'))
    const before = await summaries()
    const file = join(folder, 'packed.tar')
    await save('-o', file, 'fx/odd:3')
    await removeAll()
    await strata.load(createReadStream(file))
    expect(await summaries()).toEqual(before)
    await removeAll()
    await strata.load(openFixture('docker20-multi.tar.gz'))
  })

  it('one asked for by its id has no name', async () => {
    const [image] = await strata.images()
    const file = join(folder, 'id.tar')
    await save('-o', file, image!.id)
    const before = await summaries()
    await removeAll()
    const { images } = await strata.load(createReadStream(file))
    expect(images).toMatchObject([{ id: image!.id, names: [] }])
    await removeAll()
    await strata.load(openFixture('docker20-multi.tar.gz'))
    expect(await summaries()).toEqual(before)
  })

  it('its length is known, and any part of it can be asked for', async () => {
    const whole = await strata.request('GET', path('fx/odd:3'))
    expect(whole.status).toBe(200)
    expect(whole.headers).toMatchObject({
      'content-length': `${whole.bytes.length}`,
      'content-type': 'application/x-tar',
      'accept-ranges': 'bytes',
    })
    const head = await strata.request('HEAD', path('fx/odd:3'))
    expect({ status: head.status, length: head.headers['content-length'], bytes: head.bytes.length }).toEqual({
      status: 200,
      length: `${whole.bytes.length}`,
      bytes: 0,
    })
    const etag = String(whole.headers.etag)
    const part = async (range: string, ifRange = etag) =>
      strata.request('GET', path('fx/odd:3'), undefined, { headers: { range, 'if-range': ifRange } })
    const middle = await part('bytes=1000000-1999999')
    expect({
      status: middle.status,
      range: middle.headers['content-range'],
      same: middle.bytes.equals(whole.bytes.subarray(1_000_000, 2_000_000)),
    }).toEqual({
      status: 206,
      range: `bytes 1000000-1999999/${whole.bytes.length}`,
      same: true,
    })
    const last = await part('bytes=-100')
    expect(last.bytes.equals(whole.bytes.subarray(-100))).toBe(true)
    expect((await part(`bytes=${whole.bytes.length}-`)).status).toBe(416)
    // What was saved before is another archive: all of this one, then.
    expect((await part('bytes=5-9', '"other"')).status).toBe(200)
  })

  it('what is not there is said before a byte is sent', async () => {
    expect((await strata.request('GET', path('nobody/nothing'))).json()).toMatchObject({ code: 'image_not_found' })
    expect((await strata.request('GET', path('fx/odd:3', '&image=nobody/nothing'))).json()).toMatchObject({
      code: 'image_not_found',
    })
    expect((await strata.request('GET', '/v1/archive')).json()).toMatchObject({
      code: 'bad_request',
      detail: expect.stringContaining('image') as string,
    })
    expect((await strata.request('GET', path('fx/odd:3', '&format=rar'))).json()).toMatchObject({ code: 'bad_request' })
    expect((await strata.request('GET', path('fx/odd:3', '&have=sha256:1'))).json()).toMatchObject({
      code: 'bad_request',
    })
    const file = join(folder, 'none.tar')
    expect(await strata.cli(['save', '-o', file, 'nobody/nothing'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('nobody/nothing') as string,
    })
    expect((await readdir(folder)).filter((name) => name.startsWith('none'))).toEqual([])
  })
})

describe('an incremental archive', () => {
  it('leaves out what the receiver has; who has it not is told which layers', async () => {
    const before = await summaries()
    const since = join(folder, 'since.tar')
    await save('--since', 'fx/odd:2', '-o', since, 'fx/odd:3')
    const { layers } = (await strata.request('GET', '/v1/images/fx%2Fodd:2')).json<{ layers: { digest: string }[] }>()
    const digests = join(folder, 'digests.txt')
    await writeFile(digests, layers.map(({ digest }) => `${digest}\n`).join(''))
    expect((await save('--have', digests, 'fx/odd:3')).equals(await readFile(since))).toBe(true)
    expect((await readFile(since)).length).toBeLessThan(32_768)
    // As many as there may be: of a receiver that has much.
    await writeFile(
      digests,
      [
        ...layers.map(({ digest }) => digest),
        ...Array.from({ length: 1_000 - layers.length }, (_, n) => digestOf(`other ${n}`)),
      ].join('\n'),
    )
    expect((await save('--have', digests, 'fx/odd:3')).equals(await readFile(since))).toBe(true)

    await strata.request('DELETE', `/v1/images/${encodeURIComponent('fx/odd:3')}`)
    expect((await strata.load(createReadStream(since))).images).toMatchObject([{ names: ['fx/odd:3'] }])
    expect(await summaries()).toEqual(before)

    const other = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false' } })
    try {
      const answer = await other.request('POST', '/v1/images', createReadStream(since))
      expect({ status: answer.status, ...answer.json<object>() }).toMatchObject({ status: 400, code: 'layer_missing' })
      for (const { digest } of layers) expect(answer.json<{ detail: string }>().detail).toContain(digest)
      expect(await other.images()).toEqual([])
    } finally {
      await other.dispose()
    }
  })
})

describe('a download that breaks', () => {
  it('goes on where it was', async () => {
    const whole = (await strata.request('GET', path('fx/odd:3'))).bytes
    let connections = 0
    const socket = join(folder, 'breaks.sock')
    const proxy: Server = createServer((client) => {
      connections++
      const service = connect(strata.socket)
      let left = connections <= 3 ? 3_000_000 : Infinity
      client.pipe(service)
      service.on('data', (bytes) => {
        left -= bytes.length
        client.write(bytes)
        if (left < 0) client.destroySoon()
      })
      // What has been written goes out first, so that it is known how much came.
      service.on('error', () => undefined).on('close', () => client.destroySoon())
      client.on('error', () => undefined).on('close', () => service.destroy())
    })
    await new Promise<void>((resolve) => proxy.listen(socket, resolve))
    const file = join(folder, 'resumed.tar')
    try {
      const child = spawn(process.execPath, [CLI, 'save', '-o', file, 'fx/odd:3'], {
        env: { ...INHERITED, STRATA_HOST: `unix://${socket}` },
        stdio: 'inherit',
      })
      expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(0)
    } finally {
      await new Promise((resolve) => proxy.close(resolve))
    }
    expect(connections).toBe(4)
    expect((await readFile(file)).equals(whole)).toBe(true)
  })
})
