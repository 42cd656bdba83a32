import { describe, expect, it } from 'vitest'
import {
  algorithmOf,
  chainIdOf,
  chainIds,
  digestFromHex,
  digestOf,
  hexOf,
  isDiffId,
  isDigest,
  parseDiffId,
  parseDigest,
} from './digest.js'

const EMPTY = 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

describe('digests', () => {
  it('are of bytes', () => {
    expect(digestOf('')).toBe(EMPTY)
    expect(hexOf(parseDigest(EMPTY))).toBe(EMPTY.slice(7))
    expect(digestFromHex(EMPTY.slice(7))).toBe(EMPTY)
  })

  it('may be of sha512, which a diffID is not', () => {
    const digest = digestOf('', 'sha512')
    expect(digest).toMatch(/^sha512:cf83e1357eef[0-9a-f]{116}$/)
    expect([isDigest(digest), isDiffId(digest), isDiffId(EMPTY)]).toEqual([true, false, true])
    expect([algorithmOf(digest), algorithmOf(parseDigest(EMPTY))]).toEqual(['sha512', 'sha256'])
    expect(digestFromHex(hexOf(digest))).toBe(digest)
    expect(() => parseDiffId(digest)).toThrow(expect.objectContaining({ code: 'bad_request' }) as Error)
  })

  it.each([
    'sha256:../../etc/passwd',
    `sha256:${'A'.repeat(64)}`,
    `sha256:${'a'.repeat(63)}`,
    `sha256:${'a'.repeat(65)}`,
    `sha256:${'a'.repeat(64)}\n`,
    'a'.repeat(64),
    `md5:${'a'.repeat(32)}`,
    `sha512:${'a'.repeat(64)}`,
    `sha256:${'a'.repeat(128)}`,
    `sha384:${'a'.repeat(96)}`,
    '',
  ])('refuse %j, since digests become paths', (text) => {
    expect(isDigest(text)).toBe(false)
    expect(() => parseDigest(text)).toThrow(expect.objectContaining({ code: 'bad_request' }) as Error)
  })

  it('chain as image-spec says', () => {
    const [a, b, c] = ['a', 'b', 'c'].map((text) => parseDiffId(digestOf(text)))
    const chain = chainIds([a!, b!, c!])
    expect(chain[0]).toBe(a)
    expect(chain[1]).toBe(digestOf(`${a} ${b}`))
    expect(chain[2]).toBe(digestOf(`${chain[1]} ${c}`))
    expect(chainIdOf([a!, b!, c!])).toBe(chain[2])
    expect(chainIdOf([])).toBe(EMPTY)
  })
})
