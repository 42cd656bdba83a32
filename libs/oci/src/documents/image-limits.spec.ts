import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../names/digest.js'
import type { StrataError } from '@strata/base'
import { imageConfigSchema, manifestSchema, parseJson, type ImageConfig } from './image.js'
import { expectConfig, expectDescriptors, IMAGE_LIMITS, MAX_ANNOTATIONS, type ImageLimitName } from './image-limits.js'

const config = (run: object, rest: object = {}): ImageConfig =>
  imageConfigSchema.parse({ os: 'linux', architecture: 'amd64', config: run, rootfs: { type: 'layers' }, ...rest })
const texts = (count: number): string[] => Array.from({ length: count }, (_, n) => `${n}`)
const set = (keys: readonly string[]): object => Object.fromEntries(keys.map((key) => [key, {}]))
const bytes = (count: number): string => 'x'.repeat(count)
/** So many bytes in texts that are no longer than one may be. */
const cut = (count: number, one: number): string[] =>
  Array.from({ length: Math.ceil(count / one) }, (_, n) =>
    `${n}`.padEnd(Math.min(one, count - n * one), 'x').slice(0, Math.min(one, count - n * one)),
  )

/** A config that measures so much of one kind, and little of every other. */
const OF: Record<ImageLimitName, (count: number) => ImageConfig> = {
  layers: (count) => config({}, { rootfs: { type: 'layers', diff_ids: texts(count).map((text) => digestOf(text)) } }),
  history: (count) => config({}, { history: texts(count).map(() => ({})) }),
  historyText: (count) => config({}, { history: [{ created_by: bytes(count) }] }),
  env: (count) => config({ Env: texts(count) }),
  entrypoint: (count) => config({ Entrypoint: texts(count) }),
  cmd: (count) => config({ Cmd: texts(count) }),
  word: (count) => config({ Env: [bytes(count)] }),
  words: (count) => config({ Cmd: cut(count, 10_000) }),
  ports: (count) => config({ ExposedPorts: set(texts(count)) }),
  port: (count) => config({ ExposedPorts: set([bytes(count)]) }),
  volumes: (count) => config({ Volumes: set(texts(count)) }),
  volume: (count) => config({ Volumes: set([bytes(count)]) }),
  volumeBytes: (count) => config({ Volumes: set(cut(count, 1_000)) }),
  folders: (count) =>
    config({
      Volumes: set(
        Array.from(
          { length: Math.ceil(count / 200) },
          (_, n) => `/${n}${'/d'.repeat(Math.min(200, count - 200 * n) - 1)}`,
        ),
      ),
    }),
  depth: (count) => config({ WorkingDir: 'd/'.repeat(count) }),
  workdir: (count) => config({ WorkingDir: bytes(count) }),
  user: (count) => config({ User: bytes(count) }),
  stopSignal: (count) => config({ StopSignal: bytes(count) }),
  hostname: (count) => config({ Hostname: bytes(count) }),
  labels: (count) => config({ Labels: Object.fromEntries(texts(count).map((text) => [text, ''])) }),
  label: (count) => config({ Labels: { a: bytes(count) } }),
  platform: (count) => config({}, { architecture: bytes(count) }),
  created: (count) => config({}, { created: bytes(count) }),
  author: (count) => config({}, { author: bytes(count) }),
}

describe('the limits of a config', () => {
  it.each(Object.entries(IMAGE_LIMITS))('%s', (name, { what, most }) => {
    const of = OF[name as ImageLimitName]
    expect(() => expectConfig(of(most), 'it')).not.toThrow()
    expect(() => expectConfig(of(most + 1), 'it')).toThrow(
      expect.objectContaining({
        code: 'limit_exceeded',
        message: `it has ${most + 1} ${what}; the limit is ${most}`,
      }) as StrataError,
    )
  })

  it('are those of the documentation', () => {
    const security = readFileSync(new URL('../../../../docs/security.md', import.meta.url), 'utf8')
    for (const { what, most } of Object.values(IMAGE_LIMITS))
      expect(security).toContain(`| ${what} | ${most.toLocaleString('en-US')} |`)
  })

  it('a volume may be as deep as a working directory', () => {
    expect(() => expectConfig(config({ Volumes: set(['/d'.repeat(257)]) }), 'it')).toThrow(
      'it has 257 folders in the path of a volume or its working directory; the limit is 256',
    )
  })

  it('annotations of a descriptor are counted', () => {
    const layer = (count: number) => ({
      digest: digestOf('x'),
      size: 1,
      annotations: Object.fromEntries(texts(count).map((text) => [text, ''])),
    })
    const manifest = (count: number) =>
      parseJson(
        manifestSchema,
        Buffer.from(JSON.stringify({ schemaVersion: 2, config: layer(0), layers: [layer(count)] })),
        'm',
      ).layers
    expect(() => expectDescriptors(manifest(MAX_ANNOTATIONS), 'm')).not.toThrow()
    expect(() => expectDescriptors(manifest(MAX_ANNOTATIONS + 1), 'm')).toThrow(
      expect.objectContaining({ code: 'limit_exceeded' }) as StrataError,
    )
  })
})
