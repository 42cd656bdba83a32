import { afterEach, expect, it } from 'vitest'
import { mountTable } from '@strata/linux'
import { StrataUnderTest, until } from '../testing/strata.js'

let strata: StrataUnderTest
afterEach(async () => {
  await strata.remove()
})

it('a runtime that is told to end while it starts, and waits for a Redis that is gone, leaves no mounts', async () => {
  strata = await StrataUnderTest.start({
    topology: 'processes',
    store: 'folder',
    started: false,
    environment: { STRATA_DRAIN_MS: '500' },
  })
  await strata.redis.start()
  await strata.startGroup(['runtime'])
  const { folder } = strata.node
  await until(
    () => mountTable().some(({ mountPoint }) => mountPoint.startsWith(`${folder}/`)),
    'its mounts are there',
    60,
    5,
  )
  await strata.redis.stop('SIGKILL')
  expect(await strata.stop('SIGTERM', 'runtime')).toEqual([0])
  await expect.poll(() => strata.leftovers()).toEqual([])
})
