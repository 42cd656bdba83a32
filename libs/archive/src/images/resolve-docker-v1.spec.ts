import { buffer } from 'node:stream/consumers'
import { type StrataError } from '@strata/base'
import { digestOf, familiarReference, hexOf, imageConfigSchema, parseJson } from '@strata/oci'
import { pack } from 'tar-stream'
import { describe, expect, it } from 'vitest'
import { resolveArchive } from './resolve.js'
import { openFixture } from '../testing/fixtures.js'
import { listArchive } from '../testing/list-archive.js'

const id = (digit: string): string => digit.repeat(64)
const layer = Buffer.alloc(1024)

/** Folders `<id>/{json,layer.tar}`, and `repositories`. */
async function resolve(images: Record<string, object>, repositories?: object) {
  const tar = pack()
  for (const [name, json] of Object.entries(images)) {
    tar.entry({ name: `${name}/json` }, JSON.stringify(json))
    tar.entry({ name: `${name}/layer.tar` }, layer)
  }
  if (repositories) tar.entry({ name: 'repositories' }, JSON.stringify(repositories))
  tar.finalize()
  const { listing, readSmall } = listArchive(await buffer(tar))
  return resolveArchive(listing, readSmall)
}

describe('archives of docker before 1.10', () => {
  it('an image gets the id that docker itself gives it when it loads the archive', async () => {
    // docker 20.10 writes the old form as well: without manifest.json and the config, this is what
    // docker 1.9 wrote.
    const { listing, readSmall } = listArchive(await buffer(openFixture('docker20-odd.tar')))
    const old = {
      entries: listing.entries.filter(({ name }) => name !== 'manifest.json' && !/^[0-9a-f]{64}\.json$/.test(name)),
    }
    const [image, ...others] = await resolveArchive(old, readSmall)
    expect(others).toEqual([])
    expect(image!.names.map(familiarReference)).toEqual(['fx/odd:3'])
    // What `docker load` of docker 20.10.24 says of this archive.
    expect(hexOf(image!.config.digest)).toBe('3669f6a27d22f0df1cc43192c851004d5f3d7f2e8a08e2365da7666b134c4b65')
    expect(image!.layers.map(({ diffId }) => hexOf(diffId).slice(0, 8))).toEqual(['807953b6', '3782d6d3', '4689fcb4'])
  })

  it('several names, shared layers, images without a name', async () => {
    const images = await resolve(
      {
        [id('a')]: { id: id('a'), os: 'linux', architecture: 'arm64' },
        [id('b')]: { parent: id('a'), comment: 'b' },
        [id('c')]: { parent: id('a'), author: '<c>&', Size: 3, container_config: { Cmd: ['/bin/sh', '-c', 'x'] } },
      },
      { 'old/b': { 1: id('b'), latest: id('b') }, base: { 1: id('a') } },
    )
    expect(images.map(({ names, layers }) => [names.map(familiarReference), layers.length])).toEqual([
      [['old/b:1', 'old/b:latest'], 2],
      [['base:1'], 1],
      [[], 2],
    ])
    const made = images[2]!.config
    if (!('bytes' in made)) throw new Error('the config is made')
    expect(digestOf(made.bytes)).toBe(made.digest)
    const hex = hexOf(digestOf(layer))
    const first = '"created":"0001-01-01T00:00:00Z"'
    expect(made.bytes.toString()).toBe(
      `{"author":"\\u003cc\\u003e\\u0026","container_config":{"Cmd":["/bin/sh","-c","x"]},"history":[{${first}},{${first},"author":"\\u003cc\\u003e\\u0026","created_by":"/bin/sh -c x"}],"rootfs":{"type":"layers","diff_ids":["sha256:${hex}","sha256:${hex}"]}}`,
    )
    expect(parseJson(imageConfigSchema, made.bytes, 'it').history).toHaveLength(2)
  })

  it('ends a small archive whose images all come of one with a large history', async () => {
    const name = (n: number): string => n.toString(16).padStart(64, '0')
    const images = Object.fromEntries(Array.from({ length: 200 }, (_, n) => [name(n + 1), { parent: name(0) }]))
    await expect(resolve({ [name(0)]: { comment: 'x'.repeat(1_000_000) }, ...images })).rejects.toMatchObject({
      code: 'limit_exceeded',
      message: expect.stringContaining('together') as string,
    })
  })

  it('counts the names', async () => {
    const tags = Object.fromEntries(Array.from({ length: 1_001 }, (_, n) => [n, id('a')]))
    await expect(resolve({ [id('a')]: {} }, { x: tags })).rejects.toMatchObject({
      code: 'limit_exceeded',
      message: 'the archive has 1001 names; the limit is 1000',
    })
  })

  it.each<[string, Record<string, object>, object | undefined, StrataError['code'], RegExp]>([
    [
      'its own ancestor',
      { [id('a')]: { parent: id('b') }, [id('b')]: { parent: id('a') } },
      { x: { 1: id('a') } },
      'archive_invalid',
      /its own ancestor/,
    ],
    [
      'all ancestors of each other, and none named',
      { [id('a')]: { parent: id('b') }, [id('b')]: { parent: id('a') } },
      undefined,
      'not_an_image',
      /not an image/,
    ],
    [
      'a parent that is not there',
      { [id('a')]: { parent: id('b') } },
      undefined,
      'archive_invalid',
      /json is not in it/,
    ],
    [
      'a parent outside the archive',
      { [id('a')]: { parent: '../../etc' } },
      undefined,
      'archive_invalid',
      /"\.\.\/\.\.\/etc" is named/,
    ],
    ['a name for what is not there', { [id('a')]: {} }, { x: { 1: id('b') } }, 'archive_invalid', /json is not in it/],
    ['a name that is none', { [id('a')]: {} }, { 'X Y': { 1: id('a') } }, 'name_invalid', /X Y/],
    ['a parent that is no text', { [id('a')]: { parent: 7 } }, undefined, 'archive_invalid', /parent/],
  ])('%s', async (_, images, repositories, code, sentence) => {
    await expect(resolve(images, repositories)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(sentence) as string,
    })
  })
})
