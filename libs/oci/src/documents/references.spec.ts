import { describe, expect, it } from 'vitest'
import { digestOf } from '../names/digest.js'
import { MEDIA } from '../names/media-types.js'
import { documentSchema, isElsewhere, manifestSchema, parseJson } from './image.js'
import { readReferences } from './references.js'

const one = { digest: digestOf('x'), size: 1 }
const bytes = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))
const read = (value: unknown) => readReferences(bytes(value), 'it')

describe('the references of a stored document', () => {
  it('are those of a manifest, or of an index', () => {
    expect(read({ schemaVersion: 2, config: one, layers: [one], subject: one })).toEqual({
      config: one,
      layers: [one],
      children: undefined,
    })
    expect(read({ schemaVersion: 2, manifests: [one] })).toEqual({ config: undefined, layers: [], children: [one] })
  })

  it.each([
    ['more layers than come in', { config: one, layers: Array(10_001).fill(one) as unknown }],
    ['more parts than come in', { config: one, layers: [one], more: Array(500_001).fill([]) as unknown }],
    ['a media type and a platform of another shape', { config: one, layers: [{ ...one, mediaType: 1, platform: [] }] }],
  ])('are read of a document with %s', (_, document) => {
    expect(() => parseJson(documentSchema, bytes({ schemaVersion: 2, ...document }), 'it')).toThrow()
    expect(read(document).layers[0]).toEqual(one)
  })

  it.each([
    ['a layer that may not be given on', { mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd' }],
    ['docker’s foreign layer', { mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip' }],
    ['a layer with an address', { mediaType: MEDIA.layerGzip, urls: ['https://example.com/layer'] }],
  ])('say that %s may be elsewhere', (_, more) => {
    const layers = [{ ...one, ...more }, { ...one, urls: [] }, { ...one, urls: 'https://example.com' }, one]
    expect(read({ config: one, layers }).layers.map(isElsewhere)).toEqual([true, false, false, false])
    const manifest = parseJson(manifestSchema, bytes({ schemaVersion: 2, config: one, layers }), 'it')
    expect(manifest.layers.map(isElsewhere)).toEqual([true, false, false, false])
  })

  it('are none of what names no manifest and no config, or by what is no digest', () => {
    for (const document of [{}, [], 1, null, { layers: [one] }, { config: { digest: '../x', size: 1 } }])
      expect(() => read(document)).toThrow(expect.objectContaining({ code: 'corrupt' }) as Error)
    expect(() => readReferences(Buffer.from('{'), 'manifest x')).toThrow('manifest x is not JSON')
  })
})
