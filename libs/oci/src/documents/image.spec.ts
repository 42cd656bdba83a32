import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { digestOf } from '../names/digest.js'
import {
  diffIdsOf,
  documentSchema,
  imageConfigSchema,
  indexSchema,
  manifestSchema,
  MAX_JSON_BYTES,
  parseJson,
} from './image.js'

const digest = digestOf('x')
const descriptor = { mediaType: 'x', digest, size: 1 }
const bytes = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

/** With those of each form that a document may have. */
const issuesOf = (issues: readonly z.core.$ZodIssue[]): number =>
  issues.reduce(
    (sum, issue) =>
      sum + 1 + (issue.code === 'invalid_union' ? issue.errors.reduce((all, each) => all + issuesOf(each), 0) : 0),
    0,
  )

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

  const many = (part: unknown): unknown[] => Array.from({ length: 499_000 }, () => part)
  const named = Object.fromEntries(Array.from({ length: 200_000 }, (_, i) => [`n${i}`, 0]))
  const config = { rootfs: { type: 'layers' } }
  it.each<[what: string, schema: z.ZodType, value: unknown]>([
    ['a manifest of layers that are none', documentSchema, { schemaVersion: 2, config: descriptor, layers: many({}) }],
    ['an index of manifests that are none', documentSchema, { schemaVersion: 2, manifests: many({}) }],
    ['a few of those', documentSchema, { schemaVersion: 2, manifests: many({}).slice(0, 9_999) }],
    [
      'sizes that are none',
      documentSchema,
      { schemaVersion: 2, config: descriptor, layers: many({ ...descriptor, size: -1 }).slice(0, 9_999) },
    ],
    [
      'annotations that are no texts',
      documentSchema,
      { schemaVersion: 2, config: { ...descriptor, annotations: named }, layers: [] },
    ],
    ['a config of diffIDs that are none', imageConfigSchema, { rootfs: { type: 'layers', diff_ids: many(0) } }],
    ['a config of steps that are none', imageConfigSchema, { ...config, history: many(0) }],
    ['a config of variables that are none', imageConfigSchema, { ...config, config: { Env: many(0) } }],
    ['a config of labels that are none', imageConfigSchema, { ...config, config: { Labels: named } }],
  ])('refuses %s with a few issues, however many parts there are', (_, schema, value) => {
    let failure: unknown
    try {
      parseJson(schema, bytes(value), 'm', 'not_an_image')
    } catch (error) {
      failure = error
    }
    expect(failure).toMatchObject({ code: 'not_an_image', cause: expect.any(z.ZodError) as z.ZodError })
    const found = issuesOf(((failure as Error).cause as z.ZodError).issues)
    expect(found).toBeGreaterThan(0)
    expect(found).toBeLessThan(20)
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
