import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { FIXTURES, fixtureListing, openFixture } from '@strata/archive/testing'
import { mountTable } from '@strata/linux'
import { VARIANTS } from '@strata/snapshots'
import { readTree } from '@strata/snapshots/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { StrataUnderTest } from './testing/strata.js'
import { asksAll } from './testing/topology.js'

/**
 * Whether a layer is linked from a folder or fetched from a bucket, its files are the same, and a
 * driver gets them from the node's folder of layers: one archive and one driver show that they
 * come. In one process each driver gets all of them.
 */
const ARCHIVES = FIXTURES.filter((name) => (asksAll() ? name !== 'docker20-empty.tar' : name === 'docker28-odd.tar'))

/** The variables that choose each variant of each driver. */
const KINDS = (asksAll() ? VARIANTS : VARIANTS.slice(0, 1)).map(({ driver, variant, title }) => {
  const others = VARIANTS.filter((other) => other.driver === driver && other.variant !== variant)
  return [
    title,
    { STRATA_SNAPSHOTTER: driver, ...(others.length > 0 ? { [`STRATA_${driver.toUpperCase()}`]: variant } : {}) },
  ] as const
})

describe.each(KINDS)('%s', (_, environment) => {
  let strata: StrataUnderTest
  beforeAll(async () => {
    // A data folder whose path means something to conmon, overlayfs, shells or URLs.
    const dataName = `a:b, "ä'%20\\`
    strata = await StrataUnderTest.start({ environment: { ...environment, STRATA_PREPARE: 'false' }, dataName })
  })
  afterAll(async () => {
    await strata.dispose()
  })

  const mountPoints = (): string[] => mountTable().map(({ mountPoint }) => mountPoint)

  it.each(ARCHIVES)('fx/odd:3 of %s, mounted, is as listed', async (fixture) => {
    const { images } = await strata.load(openFixture(fixture))
    const name = images.flatMap(({ names }) => names).find((of) => of.endsWith('fx/odd:3')) ?? ''
    const mounted = await strata.cli(['mount', name])
    expect(mounted).toMatchObject({ code: 0, stderr: '' })
    const path = mounted.stdout.toString().trimEnd()
    expect(path.startsWith(`${strata.data}/node/`), path).toBe(true)
    expect(readTree(path)).toEqual(await fixtureListing())
    expect(mountPoints()).toContain(path)
    expect(await strata.cli(['umount', name])).toMatchObject({ code: 0, stderr: '' })
    for (const { id } of await strata.images()) await strata.request('DELETE', `/v1/images/${id}?force`)
  })

  it('an image of no files is an empty folder', async () => {
    await strata.load(openFixture('docker20-empty.tar'))
    const { stdout } = await strata.cli(['mount', 'fx/empty:1'])
    expect(readTree(stdout.toString().trimEnd()).map((line) => (JSON.parse(line) as { path: string }).path)).toEqual([
      '',
    ])
    expect((await strata.cli(['umount', 'fx/empty:1'])).code).toBe(0)
  })

  it('mounted again it is where it was, also while someone works in it; in use it is not unmounted', async () => {
    await strata.load(openFixture('docker28-odd.tar'))
    const at = '/v1/images/fx%2Fodd:3/mount'
    const { path } = (await strata.request('POST', at)).json<{ path: string }>()
    const reader = spawn('sleep', ['1000'], { cwd: path })
    try {
      await once(reader, 'spawn')
      const before = mountPoints().filter((point) => point === path)
      const again = await Promise.all(Array.from({ length: 8 }, () => strata.request('POST', at)))
      expect(again.map((answer) => [answer.status, answer.json<{ path: string }>().path])).toEqual(
        again.map(() => [200, path]),
      )
      expect(mountPoints().filter((point) => point === path)).toEqual(before)
      const refused = await strata.request('DELETE', at)
      expect([refused.status, refused.json<{ code: string }>().code]).toEqual([409, 'image_in_use'])
    } finally {
      reader.kill('SIGKILL')
      await once(reader, 'exit')
    }
    const many = await Promise.all(
      Array.from({ length: 16 }, (_, n) => strata.request(n % 2 === 0 ? 'DELETE' : 'POST', at)),
    )
    expect(many.filter(({ status }) => ![200, 204, 404].includes(status))).toEqual([])
    await strata.request('DELETE', at)
    expect(mountPoints()).not.toContain(path)
  })

  it('a container in whose root somebody works is not removed, and says so', async () => {
    await strata.load(openFixture('docker28-odd.tar'))
    const { stdout } = await strata.cli(['run', '-d', '--entrypoint', '/bin/busybox', 'fx/odd:3', 'sleep', '1000'])
    const id = stdout.toString().trim()
    const path = `/v1/containers/${id}`
    const reader = spawn('sleep', ['1000'], { cwd: join(strata.node.folder, 'roots', id) })
    try {
      await once(reader, 'spawn')
      const refused = await strata.request('DELETE', `${path}?force`)
      expect(refused.json()).toMatchObject({ status: 409, code: 'in_use' })
      expect((await strata.request('GET', path)).json()).toMatchObject({ state: 'exited' })
    } finally {
      reader.kill('SIGKILL')
      await once(reader, 'exit')
    }
    expect((await strata.request('DELETE', path)).status).toBe(204)
  })

  it('a container runs from it, and the root it shares is not changed', async () => {
    await strata.load(openFixture('docker28-odd.tar'))
    const script = 'echo x > /added; rm /etc/passwd; echo done'
    const run = await strata.cli([
      'run',
      '--rm',
      '-u',
      '0',
      '--entrypoint',
      '/bin/busybox',
      'fx/odd:3',
      'sh',
      '-c',
      script,
    ])
    expect(run).toEqual({ code: 0, stdout: Buffer.from('done\n'), stderr: '' })
    const { stdout } = await strata.cli(['mount', 'fx/odd:3'])
    expect(readTree(stdout.toString().trimEnd())).toEqual(await fixtureListing())
  })
})

it('a driver that does not exist is one sentence', async () => {
  await expect(StrataUnderTest.start({ environment: { STRATA_SNAPSHOTTER: 'zfs' } })).rejects.toThrow(
    /STRATA_SNAPSHOTTER/,
  )
})
