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
    containerIds: vi.fn(() => Promise.resolve<string[]>([])),
    claimedNames: vi.fn(() => Promise.resolve(new Map<string, string>())),
    publish: vi.fn(() => Promise.resolve()),
    withdraw: vi.fn(() => Promise.resolve()),
    claimContainer: vi.fn(() => Promise.resolve('n')),
    publishAll: vi.fn(() => Promise.resolve()),
  }
  let renew: (standing: NodeMembership['standing']) => void = () => undefined
  const membership = {
    standing: { member: true, whole: true, unknown: false },
    onRenewal: (listener: typeof renew) => (renew = listener),
  }
  let change: (id: string, record: ContainerRecord | undefined) => void = () => undefined
  const onChange = (listener: typeof change): (() => void) => {
    change = listener
    return () => undefined
  }
  const containers = { list: () => [...records], onChange, giveUp }
  const publisher = new Publisher(
    directory as unknown as NodeDirectory,
    { endOf: () => Promise.resolve('unknown') } as unknown as Journal,
    'n',
    membership as unknown as NodeMembership,
    containers as unknown as Containers,
    (message) => warnings.push(message),
    10,
  )
  const look = async (): Promise<void> => {
    renew(membership.standing)
    await publisher.settled()
  }
  return { look, warnings, directory, publisher, change: (...what: Parameters<typeof change>) => change(...what) }
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

const noGiveUp: Containers['giveUp'] = () => Promise.resolve(false)

it('what was published of a container that is gone is withdrawn with its name, whatever it says', async () => {
  const { look, warnings, directory } = publisherOf([], noGiveUp)
  directory.containerIds.mockResolvedValue(['gone', 'nameless'])
  directory.claimedNames.mockResolvedValue(new Map([['gone', 'x']]))
  await look()
  expect(directory.withdraw.mock.calls).toEqual([
    ['n', 'gone', 'x'],
    ['n', 'nameless', undefined],
  ])
  expect([directory.publishAll.mock.calls.length, warnings]).toEqual([1, []])
})

it('a change that Redis refuses to take is told at the next renewal', async () => {
  const { look, change, publisher, warnings, directory } = publisherOf([], noGiveUp)
  await look()
  directory.withdraw.mockRejectedValueOnce(new Error('MISCONF'))
  change('gone', undefined)
  await publisher.settled()
  expect(warnings).toEqual([expect.stringContaining('MISCONF')])
  directory.containerIds.mockResolvedValue(['gone'])
  await look()
  expect(directory.withdraw).toHaveBeenCalledTimes(2)
  await look()
  expect(directory.publishAll).toHaveBeenCalledTimes(2)
})

it('the requests of a container that is gone are ended when Redis can be told', async () => {
  const { look, publisher, warnings } = publisherOf([], noGiveUp)
  const end = vi.fn().mockRejectedValueOnce(new StrataError('queue_unavailable', 'away')).mockResolvedValue(undefined)
  publisher.endRequests('gone', end as () => Promise<void>)
  await publisher.shown()
  expect(warnings).toEqual([expect.stringContaining('away')])
  await look()
  await look()
  expect(end).toHaveBeenCalledTimes(2)
})

it('an answer does not wait until Redis is back', async () => {
  const { change, publisher, warnings, directory } = publisherOf([], noGiveUp)
  await publisher.settled()
  const { promise, resolve } = Promise.withResolvers<undefined>()
  directory.withdraw.mockReturnValueOnce(promise)
  change('gone', undefined)
  await publisher.shown()
  expect(warnings).toEqual([expect.stringContaining('Redis does not answer')])
  resolve(undefined)
  await publisher.settled()
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
