import { StrataError } from '@strata/base'
import type { ContainerExit, ContainerRecord } from '@strata/containers'
import { expect, it, vi } from 'vitest'
import { ContainerRequests } from './container-requests.js'

const never = new AbortController().signal
const exit: ContainerExit = { code: 7 }

/** One container, which has exited; what Redis knows of its requests is `ofContainer`'s. */
function requestsOf(ofContainer: () => Promise<never[]>) {
  const record = { id: 'c', starts: 1, state: { status: 'exited', code: 7 } } as unknown as ContainerRecord
  let holders = 0
  const containers = {
    get: () => record,
    list: () => [record],
    hold: () => {
      holders++
      return () => {
        holders--
      }
    },
    wait: vi.fn(() => Promise.resolve(exit)),
    onChange: () => () => undefined,
    giveUp: () => Promise.resolve(false),
  }
  const journal = { ofContainer, end: vi.fn(), stopWork: vi.fn(), fail: vi.fn() }
  return { requests: new ContainerRequests(journal, containers, 10), holders: () => holders }
}

it.each([
  ['refuses', () => Promise.reject(new StrataError('queue_unavailable', 'Redis does not answer'))],
  ['does not answer', () => new Promise<never>(() => undefined)],
])('while Redis %s, a wait of an exited container answers what the node knows', async (_how, ofContainer) => {
  const { requests } = requestsOf(ofContainer)
  expect(await requests.wait('c', never)).toEqual(exit)
  // What must know is refused.
  await expect(requests.startsOf('c')).rejects.toMatchObject({ code: 'queue_unavailable' })
})

it('what else goes wrong is not taken for an answer', async () => {
  const { requests, holders } = requestsOf(() => Promise.reject(new StrataError('internal', 'wrong')))
  await expect(requests.wait('c', never)).rejects.toMatchObject({ code: 'internal' })
  expect(holders()).toBe(0)
})

it('a container is held before its starts are asked for, and until the work has ended', async () => {
  const held: number[] = []
  const { requests, holders } = requestsOf(() => {
    held.push(holders())
    return Promise.resolve([])
  })
  await requests.behindStarts('c', never, () => {
    held.push(holders())
    return Promise.resolve()
  })
  expect([held, holders()]).toEqual([[1, 1], 0])
})
