import { buffer } from 'node:stream/consumers'
import { Readable } from 'node:stream'
import { busyboxTree, makeArchive, makeLayer, openFixture } from '@strata/archive/testing'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { StrataUnderTest } from './testing/strata.js'

let strata: StrataUnderTest
let box: Buffer
beforeAll(async () => {
  box = await makeLayer(busyboxTree())
  strata = await StrataUnderTest.start({ environment: { STRATA_PREPARE: 'false' } })
})
afterAll(async () => {
  await strata.dispose()
})
afterEach(async () => {
  for (const { id } of await strata.containers()) await strata.request('DELETE', `/v1/containers/${id}?force`)
  for (const { id } of await strata.images()) await strata.request('DELETE', `/v1/images/${id}?force`)
})

const at = (ref: string): string => `/v1/images/${encodeURIComponent(ref)}`
const get = (ref: string) => strata.request('GET', at(ref))
const remove = (ref: string, query = '') => strata.request('DELETE', at(ref) + query)
const tag = (ref: string, name: string) => strata.request('POST', `${at(ref)}/tag`, { name })
const load = async (names: string[], config: Record<string, unknown> = {}): Promise<string> =>
  (await strata.load(Readable.from([await makeArchive({ names, layers: [box], config })]))).images[0]!.id
const names = async (): Promise<string[][]> => (await strata.images()).map((image) => image.names)

describe('names', () => {
  it('an image is found by short and full name, id, digest, and the beginning of its id', async () => {
    const id = await load(['n/one:1'])
    const { digest } = (await get('n/one:1')).json<{ digest: string }>()
    for (const ref of [
      'n/one:1',
      'docker.io/n/one:1',
      id,
      id.slice(7),
      id.slice(7, 19),
      id.slice(0, 19),
      digest,
      `n/one@${digest}`,
    ]) {
      expect((await get(ref)).json(), ref).toMatchObject({ id, names: ['n/one:1'] })
    }
    for (const ref of ['n/one', 'n/one:2', 'quay.io/n/one:1', 'ffffffffffff'])
      expect((await get(ref)).json(), ref).toMatchObject({ status: 404, code: 'image_not_found' })
  })

  it('a prefix that fits several images is refused', async () => {
    const ids: string[] = []
    let shared: string | undefined
    // Seventeen images have two ids that begin with the same digit.
    for (let n = 0; shared === undefined; n++) {
      const digit = (await load([`n/p:${n}`], { Env: [`N=${n}`] })).slice(7, 8)
      if (ids.includes(digit)) shared = digit
      ids.push(digit)
    }
    expect((await get(shared)).json()).toMatchObject({ status: 409, code: 'image_ambiguous' })
  })

  it('tags come and go; the last one takes the image', async () => {
    const id = await load(['n/one:1'])
    expect((await tag('n/one:1', 'other:x')).status).toBe(201)
    expect(await strata.cli(['tag', 'other:x', 'third'])).toMatchObject({ code: 0, stderr: '' })
    expect(await names()).toEqual([['n/one:1', 'other:x', 'third:latest']])
    expect((await remove(id)).json()).toMatchObject({ status: 409, code: 'image_has_tags' })
    expect((await remove('third')).json()).toEqual({ untagged: ['third:latest'], deleted: [] })
    expect(await strata.cli(['rmi', 'other:x'])).toMatchObject({ code: 0, stderr: '' })
    expect((await remove('n/one:1')).json()).toEqual({ untagged: ['n/one:1'], deleted: [id] })
    expect(await names()).toEqual([])
    expect((await get(id)).status).toBe(404)
  })

  it('by force an id takes all its tags', async () => {
    const id = await load(['n/one:1', 'n/two:1'])
    expect((await remove(id, '?force')).json()).toEqual({ untagged: ['n/one:1', 'n/two:1'], deleted: [id] })
    expect(await names()).toEqual([])
  })

  it('an image that a container uses stays', async () => {
    const id = await load(['n/one:1'])
    const { stdout } = await strata.cli(['run', '-d', 'n/one:1', '/bin/busybox', 'true'])
    expect((await remove('n/one:1')).json()).toMatchObject({ status: 409, code: 'image_in_use' })
    expect((await remove(id, '?force')).json()).toMatchObject({ status: 409, code: 'image_in_use' })
    expect((await strata.cli(['rm', '-f', stdout.toString().trim()])).code).toBe(0)
    expect((await remove('n/one:1')).status).toBe(200)
  })

  it('a tag that moves leaves the old image as <none>', async () => {
    const old = await load(['n/one:1'])
    const fresh = await load(['n/one:1'], { Env: ['A=b'] })
    expect(fresh).not.toBe(old)
    expect((await get('n/one:1')).json()).toMatchObject({ id: fresh })
    expect((await get(old)).json()).toMatchObject({ id: old, names: [] })
    const { stdout } = await strata.cli(['images'])
    expect(stdout.toString()).toMatch(/<none>\s+<none>/)
    expect((await remove(old)).json()).toMatchObject({ deleted: [old] })
    expect(await names()).toEqual([['n/one:1']])
  })

  it('?name= names an image whose archive does not, and renames one', async () => {
    const untagged = await makeArchive({ names: [], layers: [box] })
    expect((await strata.load(Readable.from([untagged]))).images).toMatchObject([{ names: [] }])
    expect((await strata.load(Readable.from([untagged]), '?name=given:5')).images).toMatchObject([
      { names: ['given:5'] },
    ])
    expect((await strata.load(openFixture('docker20-odd.tar'), '?name=my/odd')).images).toMatchObject([
      { names: ['my/odd:latest'] },
    ])
    const several = await buffer(openFixture('docker20-multi.tar.gz'))
    expect((await strata.request('POST', '/v1/images?name=x', Readable.from([several]))).json()).toMatchObject({
      status: 400,
      code: 'bad_request',
    })
  })

  it('a name that is none is refused', async () => {
    const id = await load(['n/one:1'])
    for (const name of [
      'docker.io/Upper/case',
      'x:y:z',
      '../../etc/passwd',
      'a//b',
      'x:',
      '_tags/x',
      `${'a/'.repeat(200)}a`,
      'x\0y',
      'a:b@sha256:00',
      ' ',
      'a/_digests/b:1',
      '.',
      '..',
    ]) {
      const answer = await tag(id, name)
      expect(answer.status, JSON.stringify(name)).toBe(400)
      expect(answer.json<{ code: string }>().code, JSON.stringify(name)).toMatch(/^(name_invalid|bad_request)$/)
    }
    expect(await names()).toEqual([['n/one:1']])
  })
})
