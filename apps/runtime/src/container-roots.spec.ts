import { StrataError } from '@strata/base'
import type { ContainerRecord } from '@strata/containers'
import type { Snapshotter } from '@strata/snapshots'
import { expect, it } from 'vitest'
import { SnapshotRoots } from './container-roots.js'

const id = 'a'.repeat(64)
const rootsOf = (snapshots: Partial<Snapshotter>) => new SnapshotRoots(snapshots as Snapshotter, '/no/such/folder')

it('a snapshot that another mount shows is in use: its container does not run', async () => {
  const roots = rootsOf({
    userOf: () => '/mnt/x',
    remove: () => Promise.reject(new StrataError('in_use', 'mounted at /mnt/x')),
  })
  expect(() => roots.assertUnused({ id } as ContainerRecord)).toThrow(
    expect.objectContaining({ code: 'in_use', message: expect.stringContaining('/mnt/x') as string }),
  )
  await expect(roots.remove({ id } as ContainerRecord)).rejects.toMatchObject({ code: 'in_use' })
  expect(() => rootsOf({ userOf: () => undefined }).assertUnused({ id } as ContainerRecord)).not.toThrow()
})
