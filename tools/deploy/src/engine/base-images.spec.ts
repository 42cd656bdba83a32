import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ROOT } from '../compose-file.js'
import { baseImages, basesOf } from './base-images.js'

describe('base images', () => {
  it('are what FROM lines name, with ARGs replaced, without stages of the same file', () => {
    const file = [
      '# FROM no:comment',
      'ARG NODE=24.1.0',
      'ARG DEBIAN=bookworm',
      'FROM --platform=linux/amd64 node:${NODE}-${DEBIAN}-slim AS build',
      'FROM debian:$DEBIAN-slim AS service',
      'COPY --from=build /a /b',
      'FROM service',
    ]
    expect(basesOf(file.join('\n'))).toEqual(['node:24.1.0-bookworm-slim', 'debian:bookworm-slim'])
  })

  it('have a recipe each, for all that docker-compose.yml and the Dockerfiles take from a registry', () => {
    const images = baseImages()
    expect(images.map(({ name }) => name)).toEqual(expect.arrayContaining(['node', 'golang', 'redis']))
    for (const { reference, name, debian } of images) {
      expect(debian, reference).toMatch(/^\w+$/)
      if (name !== 'debian')
        expect(existsSync(join(ROOT, 'tools/deploy/base-images', name, 'Dockerfile')), reference).toBe(true)
    }
  })
})
