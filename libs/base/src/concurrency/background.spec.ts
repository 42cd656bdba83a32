import { expect, it } from 'vitest'
import { Background } from './background.js'

it('awaits what goes on, also what began meanwhile, and drops failures', async () => {
  const background = new Background()
  const [first, second] = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()]
  const no = new Error('no')
  background.run(async () => {
    await first.promise
    background.run(() => second.promise)
  })
  background.run(() => Promise.reject(no))
  background.run(() => {
    throw no
  })
  let isSettled = false
  const settled = background.settled().then(() => (isSettled = true))
  first.resolve(undefined)
  await first.promise
  await new Promise((resolve) => setImmediate(resolve))
  expect(isSettled).toBe(false)
  second.resolve(undefined)
  await settled
})
