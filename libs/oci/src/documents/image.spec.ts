import { describe, expect, it } from 'vitest'
import { digestOf } from '../names/digest.js'
import { diffIdsOf, imageConfigSchema, indexSchema, manifestSchema, MAX_JSON_BYTES, parseJson } from './image.js'

const digest = digestOf('x')
const descriptor = { mediaType: 'x', digest, size: 1 }
const bytes = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

describe('JSON of images', () => {
  it('reads what Go writes for nothing', () => {
    const config = parseJson(
      imageConfigSchema,
      bytes({
        architecture: 'amd64',
        os: 'linux',
        config: { Env: null, Cmd: null, Entrypoint: null, Volumes: null, Labels: null, ExposedPorts: { '80/tcp': {} } },
        rootfs: { type: 'layers', diff_ids: null },
        history: null,
      }),
      'config',
    )
    expect(config.config).toMatchObject({
      Env: undefined,
      Cmd: undefined,
      Volumes: [],
      Labels: {},
      ExposedPorts: ['80/tcp'],
      User: '',
    })
    expect(diffIdsOf(config)).toEqual([])
  })

  it('is a manifest or an index, never both', () => {
    expect(
      parseJson(manifestSchema, bytes({ schemaVersion: 2, config: descriptor, layers: [descriptor] }), 'm').layers,
    ).toHaveLength(1)
    expect(() =>
      parseJson(manifestSchema, bytes({ schemaVersion: 2, config: descriptor, layers: [], manifests: [] }), 'm'),
    ).toThrow(/m is not valid: manifests/)
    expect(() => parseJson(indexSchema, bytes({ schemaVersion: 2, manifests: [], layers: [] }), 'i')).toThrow(
      /i is not valid: layers/,
    )
  })

  it('is a manifest without layers where they are null or absent', () => {
    for (const layers of [null, undefined])
      expect(parseJson(manifestSchema, bytes({ schemaVersion: 2, config: descriptor, layers }), 'm').layers).toEqual([])
    for (const layers of [{}, '', 0])
      expect(() => parseJson(manifestSchema, bytes({ schemaVersion: 2, config: descriptor, layers }), 'm')).toThrow(
        /m is not valid: layers/,
      )
  })

  it.each([
    ['a digest that is a path', { ...descriptor, digest: 'sha256:../../x' }],
    ['a negative size', { ...descriptor, size: -1 }],
    ['a size beyond what numbers hold', { ...descriptor, size: 1e300 }],
    ['a size that is no number', { ...descriptor, size: '1' }],
  ])('refuses %s', (_, layer) => {
    expect(() =>
      parseJson(manifestSchema, bytes({ schemaVersion: 2, config: descriptor, layers: [layer] }), 'm'),
    ).toThrow(expect.objectContaining({ code: 'archive_invalid' }) as Error)
  })

  it('refuses what is too large before it parses it, and what is not JSON', () => {
    expect(() => parseJson(manifestSchema, Buffer.alloc(MAX_JSON_BYTES + 1, 0x20), 'm')).toThrow(
      expect.objectContaining({ code: 'limit_exceeded' }) as Error,
    )
    expect(() => parseJson(manifestSchema, Buffer.from('{'), 'm', 'corrupt')).toThrow(
      expect.objectContaining({ code: 'corrupt', message: 'm is not JSON' }) as Error,
    )
  })
})
