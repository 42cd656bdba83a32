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
    const second = continueHash(name, saved)!
    second.update(bytes.subarray(at))
    expect(second.hex(), String(at)).toBe(hex)
    // What was saved is not changed by either.
    first.update(bytes.subarray(at))
    expect(first.hex()).toBe(hex)
    expect(continueHash(name, saved)!.save()).toEqual(saved)
  }
})

it('a state of another algorithm, library or machine is refused', () => {
  const saved = beginHash('sha256').save()!
  expect(continueHash('sha512', saved)).toBeUndefined()
  expect(continueHash('sha256', { ...saved, kind: 'sha256 x64 openssl-1.0' })).toBeUndefined()
  expect(continueHash('sha256', { ...saved, state: saved.state.slice(4) })).toBeUndefined()
})
