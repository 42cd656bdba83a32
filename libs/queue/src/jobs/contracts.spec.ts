import { expect, it } from 'vitest'
import { CONTRACTS } from './contracts.js'

const root = '7b0e1f5e-6f44-4c5b-9d0e-0f6d3a0c1b2a'
const digest = `sha256:${'a'.repeat(64)}`
const container = 'c0'.repeat(32)
/** As commit d5153a4 queued it: one step creates and starts. */
const launch = {
  container,
  name: 'n',
  imageName: 'img',
  image: { id: digest, digest, layers: [] },
  sealed: 'x',
  network: 'none',
  autoRemove: false,
  attach: false,
}

it('a launch that does not say otherwise starts its container', () => {
  expect(CONTRACTS.launch.data.parse({ root, launch }).launch.start).toBe(true)
  const place = { root, purpose: 'launch', launch }
  expect(CONTRACTS.place.data.parse(place)).toMatchObject({ launch: { start: true } })
  expect(CONTRACTS.launch.data.parse({ root, launch: { ...launch, start: false } }).launch.start).toBe(false)
})

it('a start has a number, from 1 on', () => {
  const start = { root, container, number: 1, attach: false }
  expect(CONTRACTS.start.data.parse(start)).toEqual(start)
  for (const number of [0, -1, 1.5, '1'])
    expect(CONTRACTS.start.data.safeParse({ ...start, number }).success).toBe(false)
})
