import { StrataError } from '@strata/base'
import type { ContainerRecord } from '@strata/containers'
import { expect, it, vi } from 'vitest'
import { prune } from './prune.js'

const ids = ['a', 'b', 'c'].map((letter) => letter.repeat(64))
const [first = '', used = '', last = ''] = ids
const records = ids.map((id) => ({ id, name: `name of ${id[0] ?? ''}` }) as ContainerRecord)
const askedLast = (_id: string, mayGo?: () => Promise<boolean>): Promise<boolean> => mayGo?.() ?? Promise.resolve(true)
const snapshots = { usage: () => Promise.resolve({ bytes: 5, inodes: 1 }) }

it('a container whose root is in use stays, and keeps no other: those that went are told', async () => {
  const containers = {
    list: () => records,
    isPrunable: () => true,
    prune: (id: string) =>
      id === used ? Promise.reject(new StrataError('in_use', 'du works in it')) : Promise.resolve(true),
  }
  const logger = { log: vi.fn(), warn: vi.fn() }
  expect(await prune(containers, snapshots, () => Promise.resolve(false), false, logger)).toEqual([
    { id: first, bytes: 5 },
    { id: last, bytes: 5 },
  ])
  expect(logger.warn.mock.calls).toEqual([[{ container: used }, 'the container name of b stays: du works in it']])
  expect(logger.log).toHaveBeenCalledTimes(2)
})

it('a container whose start was asked for stays, and is not named before', async () => {
  const containers = { list: () => records, isPrunable: () => true, prune: askedLast }
  const isAwaited = (id: string): Promise<boolean> => Promise.resolve(id === used)
  for (const dryRun of [true, false]) {
    const pruned = await prune(containers, snapshots, isAwaited, dryRun, { log: vi.fn(), warn: vi.fn() })
    expect(pruned.map(({ id }) => id)).toEqual([first, last])
  }
})

it('a container whose start is asked for while its bytes are counted stays, and is not named before', async () => {
  const containers = { list: () => records, isPrunable: () => true, prune: askedLast }
  for (const dryRun of [true, false]) {
    const asked = new Set<string>()
    const usage = (id: string): Promise<{ bytes: number; inodes: number }> => {
      if (id === used) asked.add(id)
      return snapshots.usage()
    }
    const isAwaited = (id: string): Promise<boolean> => Promise.resolve(asked.has(id))
    const pruned = await prune(containers, { usage }, isAwaited, dryRun, { log: vi.fn(), warn: vi.fn() })
    expect(pruned.map(({ id }) => id)).toEqual([first, last])
  }
})

it('a prune ends at the first container of which Redis cannot say whether its start was asked for', async () => {
  const containers = { list: () => records, isPrunable: () => true, prune: askedLast }
  const isAwaited = vi.fn(() => Promise.reject(new StrataError('queue_unavailable', 'Redis does not answer')))
  const logger = { log: vi.fn(), warn: vi.fn() }
  for (const dryRun of [true, false])
    await expect(prune(containers, snapshots, isAwaited, dryRun, logger)).rejects.toMatchObject({
      code: 'queue_unavailable',
    })
  expect(isAwaited).toHaveBeenCalledTimes(2)
})
