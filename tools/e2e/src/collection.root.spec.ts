import { randomBytes, randomUUID } from 'node:crypto'
import { existsSync, lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import type { CollectResult, DiskUsage, JobView } from '@strata/api'
import { makeArchive } from '@strata/archive/testing'
import { DRIVER_NAMES } from '@strata/snapshots'
import { listAll, TOMBSTONE_BYTES } from '@strata/store'
import { TestS3, whyNoTestS3 } from '@strata/store/testing'
import { afterEach, describe, expect, it } from 'vitest'
import { busyboxLayer, layerOf, loadBusybox } from './testing/busybox-image.js'
import { objectsOf } from './testing/store-state.js'
import { StrataUnderTest, until } from './testing/strata.js'

let strata: StrataUnderTest
let s3: TestS3 | undefined
afterEach(async () => {
  await strata.dispose()
  await s3?.remove()
  s3 = undefined
})

const collect = async (body?: object): Promise<CollectResult> => {
  const answer = await strata.request('POST', '/v1/gc', body)
  expect(answer.status, answer.bytes.toString()).toBe(200)
  return answer.json<CollectResult>()
}
const prune = async (...options: string[]): Promise<string> => {
  const { code, stdout, stderr } = await strata.cli(['system', 'prune', ...options])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return stdout.toString()
}
const remove = async (name: string): Promise<void> =>
  expect((await strata.request('DELETE', `/v1/images/${encodeURIComponent(name)}`)).status).toBe(200)
const output = async (...args: string[]): Promise<string> =>
  (await strata.cli(['run', '--rm', ...args])).stdout.toString()

/** Names and sizes of all objects, as anybody sees them who lists the store. */
async function storeObjects(): Promise<Map<string, number>> {
  const objects = new Map<string, number>()
  for await (const { key, size } of listAll(await strata.store(), '')) objects.set(key, size)
  return objects
}
const total = (sizes: ReadonlyMap<string, number>): number => [...sizes.values()].reduce((sum, size) => sum + size, 0)
/** A mark of a used id is a tombstone, too: it says of which lease. */
const withoutTombstones = (objects: ReadonlyMap<string, number>): string[] =>
  [...objects]
    .filter(([key, size]) => size !== TOMBSTONE_BYTES && !key.startsWith('used/'))
    .map(([key]) => key)
    .sort()

const HEX = /^[0-9a-f]{64}$/
/**
 * Bytes on disk of what the node has made of images: as `du`, but for the folders and files that
 * are always there.
 */
function nodeBytes(): Map<string, number> {
  const bytes = new Map<string, number>()
  const walk = (path: string): void => {
    const stats = lstatSync(path)
    bytes.set(path, stats.blocks * 512)
    if (stats.isDirectory()) for (const name of readdirSync(path)) walk(join(path, name))
  }
  for (const place of ['layers', 'snapshots/roots', 'snapshots/layers']) {
    const folder = join(strata.node.folder, place)
    // Only overlay has layers of its own.
    if (!existsSync(folder)) continue
    for (const name of readdirSync(folder)) if (HEX.test(name)) walk(join(folder, name))
  }
  return bytes
}
const layersHere = (): string[] => readdirSync(join(strata.node.folder, 'layers')).filter((name) => HEX.test(name))

describe.each(['folder', 'minio'] as const)('store: %s', (kind) => {
  const why = kind === 'minio' ? whyNoTestS3('minio') : undefined

  it.skipIf(why !== undefined).each(DRIVER_NAMES)(
    'after rmi and prune nothing is left, to the byte, and what is shared stays while it is needed: %s',
    async (driver) => {
      if (kind === 'minio') s3 = await TestS3.start('minio', '/var/tmp')
      strata = await StrataUnderTest.start({
        store: s3 ?? 'folder',
        environment: { STRATA_SNAPSHOTTER: driver, STRATA_GC_INTERVAL: 'off' },
      })
      const before = { store: await storeObjects(), node: nodeBytes() }
      const own = async (name: string) =>
        layerOf({ [name]: { content: randomBytes(1_000_000) }, [`${name}-more`]: { content: 'x'.repeat(700) } })
      await loadBusybox(strata, 'a:1', [await own('a')])
      await loadBusybox(strata, 'b:1', [await own('b')])
      expect(layersHere()).toHaveLength(3)
      expect(await output('a:1', 'ls', '/a')).toBe('/a\n')
      await collect()
      expect(layersHere()).toHaveLength(3)

      await remove('a:1')
      await collect()
      expect(layersHere()).toHaveLength(2)
      expect(await output('b:1', 'ls', '/b')).toBe('/b\n')

      await remove('b:1')
      const full = { store: await storeObjects(), node: nodeBytes() }
      const foretold = await collect({ dryRun: true })
      expect([...nodeBytes()]).toEqual([...full.node])
      expect([...(await storeObjects())]).toEqual([...full.store])
      const report = await collect()
      expect(report).toEqual({ ...foretold, dryRun: false })
      const after = { store: await storeObjects(), node: nodeBytes() }
      expect(withoutTombstones(after.store)).toEqual(withoutTombstones(before.store))
      expect([...after.node]).toEqual([...before.node])
      expect(report.store.bytes).toBe(total(full.store) - total(after.store))
      expect(report.store.tombstones.bytes).toBe(total(after.store) - total(before.store))
      expect(report.nodes).toMatchObject([
        { node: strata.node.id, done: true, bytes: total(full.node), roots: { count: 1 }, layers: { count: 2 } },
      ])
      expect(report.bytes).toBe(report.store.bytes - report.store.linked + total(full.node))
      expect(report.store.linked > 0).toBe(kind === 'folder')
      expect((await collect()).bytes).toBe(0)
    },
    180_000,
  )
})

describe('a collection', () => {
  const start = async (options: Parameters<typeof StrataUnderTest.start>[0] = {}) => {
    strata = await StrataUnderTest.start({
      ...options,
      environment: { STRATA_GC_INTERVAL: 'off', ...options.environment },
    })
  }

  it('keeps what a container stands on, though its image is gone from the store', async () => {
    await start()
    await loadBusybox(strata, 'a:1', [await layerOf({ f: { content: 'still here' } })])
    const { id } = (
      await strata.request('POST', '/v1/containers', {
        image: 'a:1',
        command: ['sh', '-c', 'trap "cat /f; exit 3" TERM; echo up; while :; do usleep 10000; done'],
      })
    ).json<{ id: string }>()
    // Not by the API, which refuses it.
    expect((await strata.request('DELETE', '/v1/images/a%3A1?force')).status).toBe(409)
    await (await strata.store()).delete(await objectsOf(strata, 'images/'))
    expect((await collect()).store.blobs.count).toBe(4)
    expect(layersHere()).toHaveLength(2)
    await strata.request('POST', `/v1/containers/${id}/stop`, {})
    expect((await strata.request('GET', `/v1/containers/${id}/logs?stream=stdout`)).bytes.toString()).toBe(
      'up\nstill here',
    )
    // Stopped, it still has its root.
    await collect()
    expect(layersHere()).toHaveLength(2)
    await strata.request('DELETE', `/v1/containers/${id}`)
    expect((await collect()).nodes).toMatchObject([{ roots: { count: 1 }, layers: { count: 2 } }])
    expect(layersHere()).toEqual([])
  }, 120_000)

  it('keeps what a mounted image stands on, until it is unmounted, by its id', async () => {
    await start()
    await loadBusybox(strata, 'a:1')
    const { id, path } = (await strata.request('POST', '/v1/images/a%3A1/mount')).json<{ id: string; path: string }>()
    await remove('a:1')
    expect((await collect()).store.blobs.count).toBe(3)
    expect(readdirSync(path)).toContain('bin')
    expect(layersHere()).toHaveLength(1)
    expect((await strata.request('DELETE', `/v1/images/${encodeURIComponent(id)}/mount`)).status).toBe(204)
    await collect()
    expect(layersHere()).toEqual([])
  }, 120_000)

  it('leaves an upload in flight what it has written and what it found', async () => {
    await start()
    await loadBusybox(strata, 'first')
    const archive = await makeArchive({
      names: ['second:1'],
      layers: [await busyboxLayer(), await layerOf({ f: { content: randomBytes(2_000_000) } })],
      config: { Env: ['PATH=/bin'] },
    })
    const gate = Promise.withResolvers<undefined>()
    async function* halting() {
      yield archive.subarray(0, archive.length - 20_000)
      await gate.promise
      yield archive.subarray(archive.length - 20_000)
    }
    const loading = strata.load(Readable.from(halting()))
    await until(async () => (await objectsOf(strata, 'uploads/')).length === 1, 'the upload is on its way')
    await remove('first')
    for (let round = 0; round < 3; round++) await collect()
    gate.resolve(undefined)
    await loading
    await collect()
    expect(await output('second:1', 'ls', '/f')).toBe('/f\n')
  }, 120_000)

  it('and launches, at the same time, for a while: every launch finds its image', async () => {
    await start()
    const layers = [await layerOf({ f: { content: randomBytes(100_000) } })]
    const working = new AbortController()
    const collecting = (async () => {
      while (!working.signal.aborted) await collect()
    })()
    try {
      for (let round = 0; round < 4; round++) {
        await loadBusybox(strata, 'a:1', layers)
        const answers = await Promise.all(
          Array.from({ length: 4 }, () => strata.cli(['run', '--rm', 'a:1', 'ls', '/f'])),
        )
        expect(answers.map(({ code, stderr }) => ({ code, stderr }))).toEqual(
          answers.map(() => ({ code: 0, stderr: '' })),
        )
        await until(async () => (await strata.containers()).length === 0, 'all are removed')
        await remove('a:1')
        await turn()
      }
    } finally {
      working.abort()
      await collecting
    }
    await collect()
    expect(layersHere()).toEqual([])
    expect(withoutTombstones(await storeObjects())).toEqual([])
  }, 180_000)

  it('is a job like any other; a node that does not answer is told of, and the rest is done', async () => {
    await start({
      groups: [
        ['gateway', 'ingest', 'storage'],
        ['extractor', 'runtime'],
      ],
    })
    await loadBusybox(strata, 'a:1')
    const node = strata.node.id
    await strata.stop('SIGTERM', 'extractor,runtime')
    await remove('a:1')
    const job = randomUUID()
    const answer = await strata.request('POST', `/v1/gc?wait=false&job=${job}`)
    expect([answer.status, answer.headers.location]).toEqual([202, `/v1/jobs/${job}`])
    const read = async () => (await strata.request('GET', `/v1/jobs/${job}`)).json<JobView>()
    await until(async () => (await read()).state === 'completed', 'collected')
    const { kind, result } = await read()
    expect(kind).toBe('collect')
    expect(result).toMatchObject({ store: { blobs: { count: 3 } }, nodes: [{ node, done: false }] })
    expect((await strata.request('POST', `/v1/gc?job=${job}`)).json<{ code: string }>().code).toBe('job_exists')
    expect((await strata.request('POST', '/v1/gc', { dryRun: 'yes' })).status).toBe(400)
    expect((await strata.request('POST', '/v1/gc', { absentContainers: ['0'.repeat(64)] })).status).toBe(400)
    const said = await strata.cli(['system', 'prune', '-f'])
    expect([said.code, said.stderr]).toEqual([1, `strata: the node ${node} does not answer\n`])
    expect(layersHere()).toHaveLength(1)
    await strata.startGroup(['extractor', 'runtime'])
    await strata.ready()
    expect((await collect()).nodes).toMatchObject([{ node, done: true, layers: { count: 1 } }])
    expect(layersHere()).toEqual([])
  }, 120_000)

  it('comes round by itself', async () => {
    await start({ environment: { STRATA_GC_INTERVAL: '1s' } })
    await loadBusybox(strata, 'a:1')
    await remove('a:1')
    await until(
      async () => layersHere().length === 0 && withoutTombstones(await storeObjects()).length === 0,
      'collected',
    )
    const { jobs } = (await strata.request('GET', '/v1/jobs')).json<{ jobs: JobView[] }>()
    expect(jobs.filter(({ kind }) => kind === 'collect').length).toBeGreaterThan(0)
  }, 120_000)

  it('by `system prune`, takes stopped containers and images without a tag too; only when told so', async () => {
    await start()
    await loadBusybox(strata, 'a:1', [await layerOf({ first: { content: '1' } })])
    await loadBusybox(strata, 'a:1', [await layerOf({ second: { content: '2' } })])
    await loadBusybox(strata, 'kept:1')
    expect(
      (await strata.cli(['run', '--name', 'done', 'kept:1', 'sh', '-c', 'head -c 1000000 /dev/zero > /big'])).code,
    ).toBe(0)
    const { id: running } = (
      await strata.request('POST', '/v1/containers', {
        image: 'a:1',
        command: ['sh', '-c', 'while :; do usleep 10000; done'],
      })
    ).json<{ id: string }>()
    expect(await strata.images()).toHaveLength(3)
    const df = (await strata.request('GET', '/v1/system/df')).json<DiskUsage>()
    expect(df.images).toMatchObject({ total: 3, active: 2 })
    expect(df.containers).toMatchObject({ total: 2, active: 1 })
    expect(df.containers.reclaimable).toBeGreaterThan(1_000_000)
    expect(df.layers).toMatchObject({ total: 3, active: 2 })
    expect((await strata.cli(['system', 'df'])).stdout.toString()).toMatch(
      /^TYPE +TOTAL +ACTIVE +SIZE +RECLAIMABLE\nImages +3 +2 +.*\nContainers +2 +1 +1.0\dMB +1.*\nLayers on nodes +3 +2 /,
    )

    const refused = await strata.cli(['system', 'prune'], { input: Readable.from(['n\n']) })
    expect([refused.code, refused.stderr]).toEqual([1, 'strata: nothing was removed\n'])
    const foretold = await prune('--dry-run')
    expect(await strata.images()).toHaveLength(3)
    expect(await strata.containers()).toHaveLength(2)
    const said = await prune('-f')
    expect(said.replaceAll('Deleted ', '').replace('reclaimed', 'reclaimable')).toBe(
      foretold.replaceAll(' to delete', ''),
    )
    expect(said).toMatch(
      /^Deleted Containers:\n[0-9a-f]{64}\n\nDeleted Images:\nsha256:[0-9a-f]{64}\n\nDeleted Data:\nstore: 3 blobs .*\nnode .*: 1 roots .*, 1 layers .*\n\nTotal reclaimed space: [\d.]+MB\n$/,
    )
    expect((await strata.images()).flatMap(({ names }) => names).sort()).toEqual(['a:1', 'kept:1'])
    expect((await strata.containers()).map(({ id }) => id)).toEqual([running])
    expect(await output('kept:1', 'echo', 'whole')).toBe('whole\n')
  }, 120_000)

  it('a container whose layers are still being made is not pruned', async () => {
    await start({
      groups: [['gateway', 'ingest', 'storage', 'runtime'], ['extractor']],
      environment: { STRATA_PREPARE: 'false' },
    })
    await loadBusybox(strata, 'a:1')
    const extractor = strata.pid('extractor', 'extractor')
    process.kill(extractor, 'SIGSTOP')
    const launching = strata.request('POST', '/v1/containers', { image: 'a:1', command: ['true'], name: 'mine' })
    await until(async () => (await strata.containers()).length === 1, 'the container is claimed')
    try {
      expect(await prune('--dry-run')).not.toContain('Containers to delete')
      // The collection waits for nothing that the extractor does.
      expect(await prune('-f')).not.toContain('Deleted Containers')
    } finally {
      process.kill(extractor, 'SIGCONT')
    }
    const answer = await launching
    expect(answer.status, answer.bytes.toString()).toBe(201)
    expect((await strata.request('POST', '/v1/containers/mine/wait')).json()).toEqual({ exitCode: 0 })
    expect(await prune('-f')).toContain('Deleted Containers')
    expect(await strata.containers()).toEqual([])
  }, 120_000)
})
