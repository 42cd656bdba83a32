import { StrataError } from '@strata/base'
import type { ContainerRecord, Containers } from '@strata/containers'
import type { Journal, NodeDirectory, NodeMembership } from '@strata/queue'
import { expect, it, vi } from 'vitest'
import { Publisher } from './publisher.js'

/** A container whose first start, by the request `job`, is under way. */
const record = (id: string, job: string): ContainerRecord => ({
  version: 1,
  id,
  createdAt: '2026-11-29T00:00:00.000Z',
  image: { name: 'x', id: 'x' as never, chainId: 'x' as never, config: undefined },
  request: { command: ['true'] },
  starts: 0,
  state: { status: 'created' },
  job,
})

function publisherOf(records: ContainerRecord[], giveUp: Containers['giveUp']) {
  const warnings: string[] = []
  const directory = {
    published: vi.fn(() => Promise.resolve<unknown[]>([])),
    withdraw: vi.fn(() => Promise.resolve()),
    claimContainer: vi.fn(() => Promise.resolve('n')),
    publishAll: vi.fn(() => Promise.resolve()),
  }
  let renew: (standing: NodeMembership['standing']) => void = () => undefined
  const membership = {
    standing: { member: true, whole: true, unknown: false },
    onRenewal: (listener: typeof renew) => (renew = listener),
  }
  const containers = { list: () => [...records], onChange: () => () => undefined, giveUp }
  const publisher = new Publisher(
    directory as unknown as NodeDirectory,
    { endOf: () => Promise.resolve('unknown') } as unknown as Journal,
    'n',
    membership as unknown as NodeMembership,
    containers as unknown as Containers,
    (message) => warnings.push(message),
  )
  const look = async (): Promise<void> => {
    renew(membership.standing)
    await publisher.settled()
  }
  return { look, warnings, directory }
}

it('a container that cannot be given up keeps no other, and is tried again at each look', async () => {
  const records = [record('a', 'a'), record('b', 'b')]
  const given: string[] = []
  let isFull = true
  const giveUp = (id: string): Promise<boolean> => {
    given.push(id)
    if (id === 'a' && isFull) return Promise.reject(new StrataError('storage_full', 'no space'))
    records.splice(
      records.findIndex((one) => one.id === id),
      1,
    )
    return Promise.resolve(false)
  }
  const { look, warnings, directory } = publisherOf(records, giveUp)
  await look()
  expect(given).toEqual(['a', 'b'])
  expect(warnings).toEqual([expect.stringContaining('no space')])
  expect(directory.publishAll).toHaveBeenCalledTimes(1)
  isFull = false
  await look()
  expect(given).toEqual(['a', 'b', 'a'])
  // A container of later has a request that Redis may yet hear of.
  records.push(record('c', 'c'))
  await look()
  expect(given).toEqual(['a', 'b', 'a'])
})

it('a published record that this release does not know keeps no other from being published or withdrawn', async () => {
  const { look, warnings, directory } = publisherOf([], () => Promise.resolve(false))
  directory.published.mockResolvedValue([{ of: 'another release' }, { id: 'gone', name: 'x', more: 1 }])
  await look()
  expect(directory.withdraw.mock.calls).toEqual([['n', 'gone', 'x']])
  expect([directory.publishAll.mock.calls.length, warnings]).toEqual([1, []])
})

it('a container whose record names another forgotten request by then is given up for that one too', async () => {
  const records = [record('a', 'first')]
  const given: (string | undefined)[] = []
  const giveUp: Containers['giveUp'] = (id, _error, job) => {
    given.push(job)
    if (job === 'first') records[0] = record(id, 'second')
    else records.length = 0
    return Promise.resolve(false)
  }
  const { look } = publisherOf(records, giveUp)
  await look()
  expect(given).toEqual(['first', 'second'])
})
