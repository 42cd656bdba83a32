import { describe, expect, it } from 'vitest'
import { familiarReference, formatReference, parseReference, parseTagged } from './reference.js'

describe('references', () => {
  it.each([
    ['busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['fx/odd:3', 'docker.io/fx/odd:3', 'fx/odd:3'],
    ['docker.io/busybox', 'docker.io/library/busybox:latest', 'busybox:latest'],
    ['index.docker.io/library/busybox:1', 'docker.io/library/busybox:1', 'busybox:1'],
    ['localhost/x', 'localhost/x:latest', 'localhost/x:latest'],
    ['localhost:5000/a/b:t', 'localhost:5000/a/b:t', 'localhost:5000/a/b:t'],
    ['quay.io/a/b__c-d.e:V1', 'quay.io/a/b__c-d.e:V1', 'quay.io/a/b__c-d.e:V1'],
    ['docker.io/library/a/b', 'docker.io/library/a/b:latest', 'library/a/b:latest'],
  ])('%s is %s, shown as %s', (written, full, short) => {
    const reference = parseTagged(written)
    expect(formatReference(reference)).toBe(full)
    expect(familiarReference(reference)).toBe(short)
    expect(formatReference(parseTagged(short))).toBe(full)
  })

  it('keeps a digest, and makes up no tag beside it', () => {
    const digest = `sha256:${'a'.repeat(64)}`
    expect(parseTagged(`fx/odd@${digest}`)).toEqual({ repository: 'docker.io/fx/odd', tag: undefined, digest })
    expect(parseReference(`fx/odd:3@${digest}`)).toMatchObject({ tag: '3', digest })
    expect(parseReference('fx/odd').tag).toBeUndefined()
  })

  it.each([
    '',
    ':1',
    'A',
    'a:',
    'a:b:c',
    '../x',
    'a//b',
    'a/../b',
    '/a',
    'a/',
    'a b',
    'a@sha256:short',
    `a@sha512:${'a'.repeat(127)}`,
    'a:' + 'x'.repeat(129),
    '-a',
    'a..b',
    'a\0',
    'docker.io/',
    'exa mple.com/a',
    'x'.repeat(256),
    'ä',
  ])('refuses %j', (text) => {
    expect(() => parseTagged(text)).toThrow(expect.objectContaining({ code: 'name_invalid' }) as Error)
  })
})
