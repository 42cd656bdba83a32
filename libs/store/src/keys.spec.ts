import { digestOf, parseDiffId, parseReference, type Digest, type Repository, type Tag } from '@strata/oci'
import { describe, expect, it } from 'vitest'
import {
  checkKey,
  digestInKey,
  freshDataKey,
  keys,
  parseIdMark,
  parseImageKey,
  parseNameMark,
  leaseInKey,
} from './keys.js'

const digest = digestOf('x')
const hex = digest.slice(7)
const repository = (name: string) => parseReference(name).repository

describe('keys', () => {
  it('are as drawn', () => {
    expect(keys.data('u1', '7')).toBe('data/u1/7')
    expect(keys.lease('u1')).toBe('uploads/u1')
    expect(keys.blob(digest)).toBe(`blobs/sha256/${hex}`)
    expect(keys.index(parseDiffId(digest))).toBe(`index/v1/${hex}`)
    expect(keys.tag(repository('fx/odd'), '3' as Tag)).toBe('images/docker.io/fx/odd/_tags/3')
    expect(keys.imageDigest(repository('localhost:5000/x'), digest)).toBe(`images/localhost:5000/x/_digests/${hex}`)
    expect(keys.imageDigest(undefined, digest)).toBe(`images/_digests/${hex}`)
    expect(freshDataKey('u1')).not.toBe(freshDataKey('u1'))
  })

  it.each([
    'fx/odd',
    'busybox',
    'localhost/tags/digests/tags',
    'a.b/c__d/e-f',
    'HOST/x',
    'h:5000/a',
    `${'a/'.repeat(120)}b`,
  ])('of images say what they were made of: %s', (name) => {
    const it = repository(name)
    expect(parseImageKey(checkKey(keys.tag(it, 'v1.0-X_y' as Tag)))).toEqual({
      repository: it,
      tag: 'v1.0-X_y',
      digest: undefined,
    })
    expect(parseImageKey(checkKey(keys.imageDigest(it, digest)))).toEqual({ repository: it, tag: undefined, digest })
    expect(parseImageKey(keys.imageDigest(undefined, digest))).toEqual({
      repository: undefined,
      tag: undefined,
      digest,
    })
  })

  it.each([
    'images/x',
    'images/_tags/a',
    'images/docker.io/x/_tags/',
    'images/docker.io/x/_digests/abc',
    'images/docker.io/../x/_tags/a',
    'images/docker.io/x/_tags/a/b',
    'images/x/_tags/a',
    'blobs/sha256/ff',
  ])('that none of them made are known: %s', (key) => {
    expect(parseImageKey(key)).toBeUndefined()
  })

  it.each(['sha256', 'sha512'] as const)('of name marks say what they were made of: %s', (algorithm) => {
    const [manifest, id] = [digestOf('x', algorithm), digestOf('y', algorithm)]
    const it = repository(`${'a/'.repeat(110)}b`)
    for (const name of [
      { repository: it, tag: `v${'1'.repeat(127)}` as Tag, digest: undefined },
      { repository: it, tag: undefined, digest: manifest },
      { repository: undefined, tag: undefined, digest: manifest },
    ]) {
      const key = checkKey(keys.nameMark(manifest, name, 'mark'))
      expect(key.startsWith(keys.nameMarksOf(manifest))).toBe(true)
      expect(parseNameMark(key)).toEqual({ digest: manifest, name, mark: 'mark' })
    }
    const key = checkKey(keys.idMark(id, manifest, 'mark'))
    expect(parseIdMark(key)).toEqual({ id, digest: manifest, mark: 'mark' })
    for (const digits of [1, 2, 3, 4, 5, 63])
      expect(key.startsWith(keys.idMarksWith(id.slice(7, 7 + digits)))).toBe(true)
    for (const none of ['image-names/_all', 'image-names/ids/aa/bb/cc/dd~x', `${keys.nameMarksOf(manifest)}x`])
      expect(parseNameMark(none) ?? parseIdMark(none)).toBeUndefined()
  })

  it('have a sha512 as well, where a digest may be one', () => {
    const long = digestOf('x', 'sha512')
    expect(keys.blob(long)).toBe(`blobs/sha512/${long.slice(7)}`)
    for (const key of [keys.blob(long), keys.checkpoints(long)]) expect(digestInKey(key)).toBe(long)
    expect(parseImageKey(checkKey(keys.imageDigest(repository('fx/odd'), long)))).toMatchObject({ digest: long })
    for (const key of [`blobs/sha512/${hex}`, `index/v1/${long.slice(7)}`]) expect(digestInKey(key)).toBeUndefined()
  })

  it('refuse what was cast and not parsed', () => {
    expect(() => keys.blob('sha256:../../x' as Digest)).toThrow(expect.objectContaining({ code: 'bad_request' }))
    expect(() => keys.tag('docker.io/../../x' as Repository, 'a' as Tag)).toThrow(
      expect.objectContaining({ code: 'name_invalid' }),
    )
    expect(() => keys.tag(repository('x'), undefined as unknown as Tag)).toThrow(
      expect.objectContaining({ code: 'bad_request' }),
    )
    expect(() => keys.tag(repository('x'), '../a' as Tag)).toThrow(expect.objectContaining({ code: 'bad_request' }))
    for (const id of ['', '..', 'a/b', 'x'.repeat(65), '-a', 'a b'])
      expect(() => keys.lease(id)).toThrow(expect.objectContaining({ code: 'bad_request' }))
  })

  it('tell digests and uploads', () => {
    expect(digestInKey(keys.blob(digest))).toBe(digest)
    expect(digestInKey(`blobs/sha256/${hex}0`)).toBeUndefined()
    expect(digestInKey(`blobs/sha256/${hex}${hex}`)).toBeUndefined()
    expect(leaseInKey('data/u1/7')).toBe('u1')
    expect(leaseInKey('uploads/u1')).toBe('u1')
    expect(leaseInKey('images/u1')).toBeUndefined()
  })
})
