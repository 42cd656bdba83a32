import { afterAll, beforeAll, expect, it } from 'vitest'
import { loadBusybox } from './testing/busybox-image.js'
import { StrataUnderTest } from './testing/strata.js'

/** In a mount namespace of its own, as in a container. */
let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start({ under: ['unshare', '--mount'], environment: { STRATA_PREPARE: 'false' } })
  await loadBusybox(strata, 'unseen:1')
})
afterAll(() => strata.dispose())

it('an image is not mounted where nobody would see it: the answer says what to do', async () => {
  const { code, stdout, stderr } = await strata.cli(['mount', 'unseen:1'])
  expect([code, stdout.toString()]).toEqual([1, ''])
  expect(stderr).toContain('Read the image with strata ls, cat or export')
  expect((await strata.cli(['ls', 'unseen:1', '/bin'])).stdout.toString()).toContain('busybox')
})
