import { createHash, randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import { beginHash, continueHash } from './continued-hash.js'

it.each(['sha256', 'sha512'] as const)('%s goes on where it was saved, at any byte', (name) => {
  const bytes = randomBytes(3_000)
  const hex = createHash(name).update(bytes).digest('hex')
  for (const at of [0, 1, 63, 64, 65, 127, 128, 1_000, 2_999, 3_000]) {
    const first = beginHash(name)
    first.update(bytes.subarray(0, at))
    const saved = JSON.parse(JSON.stringify(first.save())) as { kind: string; state: string }
    const second = continueHash(name, saved, at)!
    second.update(bytes.subarray(at))
    expect(second.hex(), String(at)).toBe(hex)
    // What was saved is not changed by either.
    first.update(bytes.subarray(at))
    expect(first.hex()).toBe(hex)
    expect(continueHash(name, saved, at)!.save()).toEqual(saved)
  }
})

it('a state of another algorithm, library or machine is refused', () => {
  const saved = beginHash('sha256').save()!
  expect(continueHash('sha512', saved, 0)).toBeUndefined()
  expect(continueHash('sha256', { ...saved, kind: 'sha256 x64 openssl-1.0' }, 0)).toBeUndefined()
  expect(continueHash('sha256', { ...saved, state: saved.state.slice(4) }, 0)).toBeUndefined()
})

it.each(['sha256', 'sha512'] as const)(
  'a state of %s that C would believe and is not right never comes to C',
  (name) => {
    const hash = beginHash(name)
    hash.update(randomBytes(1_000))
    const saved = hash.save()!
    expect(continueHash(name, saved, 1_000)).toBeDefined()
    for (const hashed of [0, 999, 1_001, 1_000 + 128, 1_000 + 2 ** 29])
      expect(continueHash(name, saved, hashed)).toBeUndefined()
    const state = Buffer.from(saved.state, 'base64')
    const word = name === 'sha256' ? 4 : 8
    // The bits, low and high, the bytes in the block, and the bytes of the digest.
    for (const at of [8 * word, 9 * word, state.length - 8, state.length - 4])
      for (const value of [0xff, 64, 128, 1]) {
        const wrong = Buffer.from(state)
        wrong[at] = wrong[at]! ^ value
        expect(continueHash(name, { ...saved, state: wrong.toString('base64') }, 1_000), `${at}`).toBeUndefined()
      }
  },
)
