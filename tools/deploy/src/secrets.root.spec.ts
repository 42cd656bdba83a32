import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ROOT } from './compose-file.js'

let data: string
beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), 'strata-secrets-'))
  mkdirSync(join(data, 'sockets'))
})
afterEach(() => rmSync(data, { recursive: true }))

function run(...args: string[]): { status: number | null; stderr: string } {
  const script = join(ROOT, 'infra/strata/make-secrets.sh')
  return spawnSync('sh', [script, data, join(data, 'sockets'), ...args], { encoding: 'utf8' })
}
const secret = (name: string): string => readFileSync(join(data, 'secrets', name, 'value'), 'utf8')
const access = (path: string) => {
  const { uid, gid, mode } = statSync(join(data, path))
  return `${uid}:${gid} ${(mode & 0o7777).toString(8)}`
}

describe('make-secrets.sh', () => {
  it('makes each secret once, readable by root and the services', () => {
    expect(run('make', 'token', 'node-secret').status).toBe(0)
    const made = [secret('token'), secret('node-secret')]
    for (const value of made) expect(value).toMatch(/^[0-9a-f]{64}$/)
    expect(made[0]).not.toBe(made[1])
    expect(run('make', 'token', 'node-secret').status).toBe(0)
    expect([secret('token'), secret('node-secret')]).toEqual(made)
    expect([access('secrets'), access('secrets/token'), access('secrets/token/value')]).toEqual([
      '0:0 700',
      '0:7120 750',
      '0:7120 640',
    ])
  })

  it('gives Redis, MinIO and the socket to their users', () => {
    expect(run('make').status).toBe(0)
    expect([access('redis-data'), access('minio'), access('minio/strata'), access('sockets')]).toEqual([
      '7122:7120 700',
      '7121:7120 700',
      '7121:7120 700',
      '7122:7120 750',
    ])
  })

  it('makes the secrets anew that are named, and no others', () => {
    run('make', 'token', 'node-secret')
    const [token, other] = [secret('token'), secret('node-secret')]
    expect(run('rotate', 'token').status).toBe(0)
    expect(secret('token')).toMatch(/^[0-9a-f]{64}$/)
    expect(secret('token')).not.toBe(token)
    expect(secret('node-secret')).toBe(other)
    expect(run('rotate', 'tokens')).toMatchObject({ status: 1, stderr: 'there is no secret tokens\n' })
    expect(run('rotate').status).toBe(1)
  })

  it('does not begin anew beside the node of an older deployment', () => {
    mkdirSync(join(data, 'node/layers'), { recursive: true })
    const { status, stderr } = run('make', 'token')
    expect(status).toBe(1)
    expect(stderr).toContain('docs/deploy.md')
    expect(() => secret('token')).toThrow('ENOENT')
  })
})
