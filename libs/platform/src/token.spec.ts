import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { sameSecret, secretFromFile } from './token.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strata-token-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

describe('a secret in a file', () => {
  it('is made once, for its owner alone, and leaves nothing else', () => {
    const path = join(folder, 'deep', 'token')
    const secret = secretFromFile(path)
    expect(secret).toMatch(/^[0-9a-f]{64}$/)
    expect(secretFromFile(path)).toBe(secret)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(readdirSync(join(folder, 'deep'))).toEqual(['token'])
  })

  it('is what a person wrote there', () => {
    writeFileSync(join(folder, 'token'), 'mine\n')
    expect(secretFromFile(join(folder, 'token'))).toBe('mine')
  })

  it('is compared whatever the lengths', () => {
    expect(sameSecret('a', 'a')).toBe(true)
    expect(sameSecret('a', 'ab')).toBe(false)
    expect(sameSecret('', 'a')).toBe(false)
  })
})
