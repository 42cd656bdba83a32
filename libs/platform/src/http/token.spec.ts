import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { isSecret, makeSecretFile, readSecretFile } from './token.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strata-token-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

describe('a secret in a file', () => {
  it('is made once, for its owner alone, and leaves nothing else', () => {
    const path = join(folder, 'deep', 'token')
    makeSecretFile(path)
    const secret = readSecretFile(path, 'STRATA_X')
    expect(secret).toMatch(/^[0-9a-f]{64}$/)
    makeSecretFile(path)
    expect(readSecretFile(path, 'STRATA_X')).toBe(secret)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(readdirSync(join(folder, 'deep'))).toEqual(['token'])
  })

  it('is what a person wrote there', () => {
    writeFileSync(join(folder, 'token'), 'a person wrote this\n')
    makeSecretFile(join(folder, 'token'))
    expect(readSecretFile(join(folder, 'token'), 'STRATA_X')).toBe('a person wrote this')
  })

  it.each([
    ['no file', undefined, 'is not there'],
    ['an empty file', ' \n', 'is not there, or empty'],
    ['a few letters', 'mine\n', 'has 4 characters'],
  ])('%s is refused in a sentence with the variable and without the secret', (_, content, words) => {
    const path = join(folder, 'secret')
    if (content !== undefined) writeFileSync(path, content)
    const read = (): string => readSecretFile(path, 'STRATA_X')
    expect(read).toThrow(/^STRATA_X: /)
    expect(read).toThrow(words)
    expect(read).not.toThrow('mine')
  })

  it('is never replaced: a folder, or a file with nothing in it, is said to be wrong, with what to do', () => {
    const path = join(folder, 'token')
    mkdirSync(path)
    expect(() => makeSecretFile(path)).toThrow(`the secret ${path} is a folder: put back the file that was there`)
    expect(statSync(path).mode & 0o777).not.toBe(0o600)
    rmSync(path, { recursive: true })
    writeFileSync(path, '')
    makeSecretFile(path)
    expect(() => readSecretFile(path, 'STRATA_X')).toThrow(`STRATA_X: ${path} is not there, or empty: make it once`)
    expect(statSync(path).size).toBe(0)
  })

  it('is compared whatever the lengths', () => {
    expect(isSecret('a')('a')).toBe(true)
    expect(isSecret('ab')('a')).toBe(false)
    expect(isSecret('a')('')).toBe(false)
    expect(isSecret('a')('ab')).toBe(false)
    expect(isSecret('a')('\0')).toBe(false)
    expect(isSecret('aé')('aé')).toBe(true)
    const isRight = isSecret('secret')
    for (const [given, expected] of [
      ['secret', true],
      ['s', false],
      ['secre', false],
      ['secret', true],
      ['secreT', false],
    ] as const)
      expect(isRight(given), given).toBe(expected)
  })
})
