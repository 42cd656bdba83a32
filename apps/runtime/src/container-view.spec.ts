import type { ContainerRecord } from '@strata/containers'
import { digestOf, type ChainId } from '@strata/oci'
import { expect, it } from 'vitest'
import { containerView, publicView } from './container-view.js'

const image = digestOf('an image')
const record: ContainerRecord = {
  version: 1,
  id: 'c0'.repeat(32),
  createdAt: '2026-11-28T12:00:00.000Z',
  starts: 1,
  job: 'start',
  state: { status: 'created' },
  request: { command: ['true'] },
  image: { name: 'x', id: image, chainId: image as unknown as ChainId, config: undefined },
}
const exited = { status: 'exited', code: 3, finishedAt: '2026-11-28T12:00:00.000Z' } as const
const both = (one: ContainerRecord) => [containerView(one, 'n', 'x'), publicView(one, 'n', 'x')]

it('one that waits for a start is told from one that is being created, launched or started', () => {
  const created: ContainerRecord = { ...record, starts: 0, startedApart: true }
  const waiting = { ...created, job: undefined }
  const bound = { ...created, idle: { state: { status: 'created' } as const, starts: 0 } }
  expect(both(waiting)).toMatchObject([{ waits: true }, { waits: true }])
  for (const one of [record, created, bound]) for (const view of both(one)) expect(view).not.toHaveProperty('waits')
})

it('a start that is under way is not counted, so that a request beside it means the same start', () => {
  const first = { ...record, idle: { state: { status: 'created' } as const, starts: 0 } }
  for (const one of [record, first])
    expect(both(one)).toMatchObject([
      { state: 'created', starts: 0 },
      { state: 'created', starts: 0 },
    ])
  // Nobody can tell of a node that is lost now whether it runs again.
  expect(both({ ...record, starts: 3, idle: { state: exited, starts: 2 } })).toMatchObject([
    { state: 'exited', starts: 2, exitCode: 3 },
    { state: 'created', starts: 0 },
  ])
  expect(containerView({ ...record, starts: 2, state: exited }, 'n', 'x')).toMatchObject({ state: 'exited', starts: 2 })
})
