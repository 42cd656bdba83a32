import { execFileSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import type { ImageView, LoadResult } from '@strata/api'
import { TestLayout } from '@strata/archive/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { settledStore } from './testing/store-state.js'
import { StrataUnderTest } from './testing/strata.js'

let strata: StrataUnderTest
let folder: string
beforeAll(async () => {
  folder = await mkdtemp('/var/tmp/strata-digests-')
  strata = await StrataUnderTest.start()
})
afterAll(async () => {
  await strata.dispose()
  await rm(folder, { recursive: true, force: true })
})

const HOST = process.arch === 'x64' ? 'amd64' : 'arm64'
const layoutOf = async (pack?: (tar: Buffer) => Buffer) => {
  const layout = new TestLayout('sha512')
  const image = await layout.image(HOST, undefined, pack)
  return {
    image,
    bytes: await layout.tar([
      {
        ...image,
        annotations: { 'io.containerd.image.name': 'docker.io/fx/long:1', 'org.opencontainers.image.ref.name': '1' },
      },
    ]),
  }
}

describe.each([
  ['plain', undefined],
  ['gzip', (tar: Buffer) => gzipSync(tar)],
] as const)('a layout whose blobs are known by sha512, its layer %s', (packing, pack) => {
  it('loads by either way in, is mounted, browsed, saved with the same digests, and goes without rest', async () => {
    const before = await settledStore(strata)
    const { image, bytes } = await layoutOf(pack)
    expect(image.digest).toMatch(/^sha512:/)
    const loaded = { id: image.id, digest: image.digest, names: ['fx/long:1'] }
    expect(
      (await strata.request('POST', '/v1/images', Readable.from([bytes]))).json<LoadResult>().images,
    ).toMatchObject([loaded])
    const file = join(folder, `${packing}.tar`)
    await writeFile(file, bytes)
    expect(await strata.cli(['load', '-q', file])).toMatchObject({ code: 0, stderr: '' })

    for (const name of [
      'fx/long:1',
      image.id,
      image.id.slice(7, 19),
      image.id.slice(0, 19),
      `fx/long@${image.digest}`,
    ]) {
      const answer = await strata.request('GET', `/v1/images/${encodeURIComponent(name)}`)
      expect([name, answer.status, answer.status === 200 && answer.json<ImageView>().layers[0]!.digest]).toEqual([
        name,
        200,
        image.layer,
      ])
    }
    const mounted = await strata.cli(['mount', 'fx/long:1'])
    expect(await readFile(join(mounted.stdout.toString().trim(), 'platform'), 'utf8')).toBe(HOST)
    expect(await strata.cli(['umount', 'fx/long:1'])).toMatchObject({ code: 0 })
    expect(await strata.cli(['cat', 'fx/long:1', '/platform'])).toMatchObject({
      code: 0,
      stdout: Buffer.from(HOST),
      stderr: '',
    })

    const { stdout: saved } = await strata.cli(['save', '--format', 'oci', 'fx/long:1'])
    const again = join(folder, `${packing}-again.tar`)
    await writeFile(again, saved)
    const listed = execFileSync('tar', ['-tf', again]).toString()
    for (const digest of [image.digest, image.id, image.layer])
      expect(listed).toContain(`blobs/${digest.replace(':', '/')}\n`)
    expect(await strata.cli(['rmi', 'fx/long:1'])).toMatchObject({ code: 0 })
    expect(
      (await strata.request('POST', '/v1/images', Readable.from([saved]))).json<LoadResult>().images,
    ).toMatchObject([loaded])
    expect((await strata.cli(['save', '--format', 'oci', 'fx/long:1'])).stdout.equals(saved)).toBe(true)

    expect(await strata.cli(['rmi', 'fx/long:1'])).toMatchObject({ code: 0 })
    expect((await strata.request('POST', '/v1/gc')).status).toBe(200)
    expect(await settledStore(strata)).toEqual(before)
  })

  it('is refused where a blob is not what its name says', async () => {
    const { image, bytes } = await layoutOf(pack)
    const name = Buffer.from(`blobs/${image.layer.replace(':', '/')}`)
    // Of a name over 100 bytes a tar has a header of its own: the damage goes into the content,
    // behind the last header that has the name.
    const at = bytes.lastIndexOf(name.subarray(0, 90))
    const content = bytes.indexOf(pack ? Buffer.from([0x1f, 0x8b]) : Buffer.from('platform'), at + 512)
    bytes[content + 20]! ^= 1
    const answer = await strata.request('POST', '/v1/images', Readable.from([bytes]))
    expect([answer.status, answer.json<{ code: string }>().code]).toEqual([400, 'digest_mismatch'])
  })
})
