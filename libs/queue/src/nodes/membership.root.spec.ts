import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { StrataError } from '@strata/base'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import {
  NodeDirectory,
  nodeIdentity,
  NodeMembership,
  producerConnection,
  QUEUES,
  QueueClient,
  whenReady,
  type NodeIdentity,
  type NodePart,
  type NodeRecord,
} from '../index.js'
import { KEY } from '../keys.js'
import { TestRedis } from '../testing/index.js'

let redis: TestRedis
let connection: ReturnType<typeof producerConnection>
let directory: NodeDirectory
const open: { leave(): Promise<void> }[] = []
beforeAll(async () => {
  redis = await TestRedis.start()
  connection = producerConnection(redis.url)
  await whenReady(connection)
  directory = new NodeDirectory(connection)
})
afterEach(async () => {
  vi.restoreAllMocks()
  for (const one of open.splice(0)) await one.leave()
  await connection.flushall()
})
afterAll(async () => {
  connection.disconnect()
  await redis.remove()
})

const A: NodeIdentity = { id: 'n', instance: 'folder-a', boot: 'boot-1', host: 'first' }
const B: NodeIdentity = { ...A, instance: 'folder-b', host: 'second' }
const record: NodeRecord = {
  id: 'n',
  door: 'unix:///x',
  host: 'first',
  driver: 'd',
  driverReason: 'r',
  runtime: 'v',
  kernel: 'k',
  warnings: [],
}
async function member(
  identity: NodeIdentity,
  part: NodePart,
  removed = (): Promise<StrataError | undefined> => Promise.resolve(undefined),
): Promise<NodeMembership> {
  const membership = await NodeMembership.join({ directory, identity, part, removed, warn: () => undefined })
  open.push(membership)
  return membership
}
/**
 * As a process that was killed: it renews no more and says nothing, also when the mocks of its test
 * are gone.
 */
const die = (membership: NodeMembership): void => {
  open.splice(open.indexOf(membership), 1)
  Object.assign(membership, { renew: () => Promise.resolve() })
}
const lapse = (): Promise<number> => connection.del(KEY.nodeOwner('n'), KEY.node('n'), KEY.extractor('n'))

describe('the id of a node', () => {
  it('belongs to the first living instance; the second is refused, and told where the first is', async () => {
    await (await member(A, 'runtime')).show(record)
    await expect(member(B, 'runtime')).rejects.toMatchObject({
      code: 'node_exists',
      message: expect.stringContaining('on the host first') as string,
    })
    await expect(member(B, 'extractor')).rejects.toMatchObject({ code: 'node_exists' })
    // A copy of the folder on another machine.
    await expect(member({ ...A, boot: 'boot-2', host: 'copy' }, 'runtime')).rejects.toMatchObject({
      code: 'node_exists',
    })
  })

  it('goes to one of two that start at once', async () => {
    const outcomes = await Promise.allSettled([
      member(A, 'runtime'),
      member(B, 'runtime'),
      member(B, 'extractor'),
      member(A, 'extractor'),
    ])
    const won = [A, B, B, A].filter((_, index) => outcomes[index]?.status === 'fulfilled')
    expect(won).toHaveLength(2)
    expect(new Set(won.map(({ instance }) => instance)).size).toBe(1)
  })

  it('is taken back at once by the same folder after kill -9, by another when the life of the registration is over', async () => {
    const first = await member(A, 'runtime')
    await first.show(record)
    die(first)
    const again = await member(A, 'runtime')
    expect(again.standing).toMatchObject({ member: true })
    die(again)
    await connection.pexpire(KEY.nodeOwner('n'), 1_000)
    expect((await member(B, 'runtime')).standing).toMatchObject({ member: true })
  })

  it('is free at once when both parts of the node have left', async () => {
    const [runtime, extractor] = [await member(A, 'runtime'), await member(A, 'extractor')]
    await extractor.show(undefined)
    await runtime.show(record)
    await runtime.renew()
    expect(runtime.standing.whole).toBe(true)
    await runtime.leave()
    expect(await connection.exists(KEY.nodeOwner('n'))).toBe(1)
    await extractor.leave()
    expect((await member(B, 'extractor')).standing.member).toBe(true)
  })

  it('is not given up by a second process of the same folder that does not come to work', async () => {
    await (await member(A, 'runtime')).show(record)
    await (await member(A, 'runtime')).leave()
    expect((await directory.list()).map(({ id }) => id)).toEqual(['n'])
  })
})

describe('a process that stood still', () => {
  it('takes no job when another has its place, and takes them again when that one is gone', async () => {
    const first = await member(A, 'runtime')
    await first.show(record)
    const standsStill = vi.spyOn(first, 'renew').mockResolvedValue(undefined)
    await lapse()
    const second = await member(B, 'runtime')
    await second.show({ ...record, host: 'second' })
    standsStill.mockRestore()
    const clock = vi.spyOn(performance, 'now')
    clock.mockReturnValue(performance.now() + 60_000)
    expect(await first.mayWork()).toBe(false)
    expect((await directory.get('n')).host).toBe('second')
    await second.leave()
    expect(await first.mayWork()).toBe(true)
    expect(first.standing.unknown).toBe(true)
  })

  it('gives back the job that it is handed meanwhile', async () => {
    const client = await QueueClient.forWork(redis.url)
    try {
      let may = false
      const worked: string[] = []
      const handlers = {
        'forget-node': () => Promise.resolve({ node: 'n' }),
        'collect-due': () => Promise.resolve({ queued: false }),
        sweep: () => Promise.resolve({ ended: [], queued: [] }),
      }
      const worker = client.serve({
        kind: 'storage',
        queue: QUEUES.storage,
        concurrency: 1,
        mayWork: async () => {
          if (!may) await worker.pause()
          else worked.push('taken')
          return may
        },
        handlers,
      })
      const job = { name: 'sweep', queue: QUEUES.storage, id: 's', data: {} } as const
      await client.producer.add(job)
      await expect.poll(async () => client.producer.queue(QUEUES.storage).getWaitingCount()).toBe(1)
      expect(worked).toEqual([])
      may = true
      await worker.resume()
      expect(await client.producer.result(job, AbortSignal.timeout(20_000))).toEqual({ ended: [], queued: [] })
    } finally {
      await client.close()
    }
  })
})

describe('the id of a node folder', () => {
  it('is made once, stays, and is made again where it cannot be read', () => {
    const folder = mkdtempSync(join(tmpdir(), 'strata-identity-'))
    try {
      const first = nodeIdentity('n', folder, 'b')
      expect(nodeIdentity('n', folder, 'b')).toEqual(first)
      expect(readFileSync(join(folder, 'identity'), 'utf8')).toBe(`${first.instance}\n`)
      writeFileSync(join(folder, 'identity'), '')
      const second = nodeIdentity('n', folder, 'b')
      expect(second.instance).not.toBe(first.instance)
      expect(nodeIdentity('n', folder, 'b')).toEqual(second)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})

describe('all containers there are', () => {
  const views = new Map([['c', { id: 'c', imageId: 'i' }]])

  it('are not known while no node is known, nor before each that is has published', async () => {
    await expect(directory.allContainers()).rejects.toMatchObject({ code: 'node_unavailable' })
    await (await member(A, 'extractor')).show(undefined)
    await expect(directory.allContainers()).rejects.toMatchObject({ code: 'node_unavailable' })
    await (await member(A, 'runtime')).show(record)
    await expect(directory.allContainers()).rejects.toMatchObject({
      code: 'node_unavailable',
      message: expect.stringContaining('the node n has not told') as string,
    })
    await directory.publishAll('n', new Map())
    expect(await directory.allContainers()).toEqual([])
  })

  it('are not known after Redis was emptied, until each node that comes back has published again', async () => {
    const parts = [await member(A, 'extractor'), await member(A, 'runtime')] as const
    await parts[0].show(undefined)
    await parts[1].show(record)
    await directory.publishAll('n', views)
    expect(await directory.allContainers()).toEqual([{ id: 'c', imageId: 'i' }])
    expect([await directory.containerIds('n'), await directory.containerCounts(['n', 'other'])]).toEqual([
      ['c'],
      [1, 0],
    ])
    expect(await directory.publishedOf('n', ['b', 'c'])).toEqual([{ id: 'c', imageId: 'i' }])
    expect([await directory.publishedById('c'), await directory.publishedById('b')]).toEqual([
      { id: 'c', imageId: 'i' },
      undefined,
    ])
    await connection.flushall()
    await expect(directory.allContainers()).rejects.toMatchObject({ code: 'node_unavailable' })
    for (const part of parts) {
      await part.renew()
      await expect(directory.allContainers()).rejects.toMatchObject({ code: 'node_unavailable' })
    }
    await directory.publishAll('n', views)
    for (const part of parts) await part.renew()
    expect(await directory.allContainers()).toEqual([{ id: 'c', imageId: 'i' }])
  })

  it('are those of nodes that are gone, too, and of nodes of an older version', async () => {
    await connection.sadd(KEY.nodes, 'old')
    await connection.hset(KEY.containers('old'), 'c', JSON.stringify({ id: 'c', imageId: 'i' }))
    expect(await directory.allContainers()).toEqual([{ id: 'c', imageId: 'i' }])
  })

  it('do not wait for a node that was forgotten', async () => {
    const runtime = await member(A, 'runtime')
    await runtime.show(record)
    await runtime.leave()
    await directory.forget('n')
    await connection.sadd(KEY.nodes, 'other')
    expect(await directory.allContainers()).toEqual([])
  })
})

describe('whether an image is used', () => {
  const uses = async (): Promise<boolean[]> => Promise.all(['i', 'ij', 'j'].map((image) => directory.usesImage(image)))

  it('is told as containers come, go, and are published anew', async () => {
    const runtime = await member(A, 'runtime')
    await runtime.show(record)
    await expect(directory.usesImage('i')).rejects.toMatchObject({ code: 'node_unavailable' })
    expect(await directory.usesImage('i', { forced: true })).toBe(false)
    await directory.publishAll('n', new Map([['c', { imageId: 'i' }]]))
    await directory.publish('n', 'd', { imageId: 'ij' })
    await directory.publish('n', 'e', { imageId: 'ij' })
    expect(await uses()).toEqual([true, true, false])
    await directory.withdraw('n', 'd', undefined)
    await directory.withdraw('n', 'c', undefined)
    expect(await uses()).toEqual([false, true, false])
    await directory.publishAll('n', new Map([['f', { imageId: 'j' }]]))
    expect(await uses()).toEqual([false, false, true])
    // It would be known again with its next renewal.
    await runtime.leave()
    await directory.forget('n')
    await connection.sadd(KEY.nodes, 'other')
    expect(await uses()).toEqual([false, false, false])
    expect(await connection.exists(KEY.uses('n'))).toBe(0)
  })

  it('is read from the records of a node of an earlier release', async () => {
    await connection.sadd(KEY.nodes, 'old')
    await connection.hset(KEY.containers('old'), 'c', JSON.stringify({ id: 'c', imageId: 'i' }))
    expect(await uses()).toEqual([true, false, false])
  })

  it('is not by a container that was withdrawn, whatever its record said', async () => {
    const texts = ['{', '[]', '7', '{"imageId":7}', '{"of":"another release"}']
    for (const text of texts) {
      await directory.publishAll('n', new Map([['c', { imageId: 'i' }]]))
      await connection.sadd(KEY.nodes, 'n')
      await connection.hset(KEY.containers('n'), 'c', text)
      await directory.claimName('name', 'c')
      await directory.withdraw('n', 'c', (await directory.claimedNames()).get('c'))
      expect([await directory.containerIds('n'), await directory.claimantOf('name')]).toEqual([[], undefined])
      expect(await connection.exists(KEY.uses('n'))).toBe(0)
    }
  })

  it('reads no record of a container', async () => {
    await connection.sadd(KEY.nodes, 'n')
    await directory.publishAll('n', new Map(Array.from({ length: 100 }, (_, at) => [`c${at}`, { imageId: 'i' }])))
    await connection.config('RESETSTAT')
    expect(await uses()).toEqual([true, false, false])
    expect(await connection.info('commandstats')).not.toMatch(/cmdstat_(hvals|hgetall|hmget|hget):/)
  })
})

describe('a node that was removed', () => {
  const removed = (): Promise<StrataError> => Promise.resolve(new StrataError('node_removed', 'the node n was removed'))
  it('does not start, and leaves no trace of its try', async () => {
    await expect(member(A, 'runtime', removed)).rejects.toMatchObject({ code: 'node_removed' })
    expect(await directory.statuses()).toEqual([])
    expect(await directory.isOwned('n')).toBe(false)
  })

  it('while it stood still, works no more when it comes back', async () => {
    let isRemoved = false
    const first = await member(A, 'runtime', () => (isRemoved ? removed() : Promise.resolve(undefined)))
    await first.show(record)
    const clock = vi.spyOn(performance, 'now')
    clock.mockReturnValue(performance.now() + 60_000)
    isRemoved = true
    await lapse()
    await directory.forget('n')
    expect(await first.mayWork()).toBe(false)
    expect(await directory.statuses()).toEqual([])
  })

  it('is refused by a process that cannot look whether it was', async () => {
    const away = new StrataError('store_unavailable', 'the store is away')
    let isAway = false
    const first = await member(A, 'runtime', () => (isAway ? Promise.reject(away) : Promise.resolve(undefined)))
    await first.show(record)
    isAway = true
    await lapse()
    await expect(first.renew()).rejects.toBe(away)
    expect(first.standing.member).toBe(false)
    isAway = false
    await first.renew()
    expect(first.standing.member).toBe(true)
    expect((await directory.list()).map(({ id }) => id)).toEqual(['n'])
  })
})
