import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { serviceMain } from '@strata/cli/service'
import { extractor } from '@strata/extractor'
import { gateway } from '@strata/gateway'
import { ingest } from '@strata/ingest'
import { VARIABLES } from '@strata/platform'
import { runtime } from '@strata/runtime'
import { standaloneConfigSchema } from '@strata/standalone'
import { storage } from '@strata/storage'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CLI, INHERITED } from '../testing/strata.js'
import { SERVICES, type Service } from '../testing/topology.js'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'strata-config-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

function run(
  args: readonly string[],
  environment: Record<string, string>,
): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, args, {
    env: { ...INHERITED, ...environment },
    encoding: 'utf8',
    timeout: 60_000,
  })
}
/** Enough for every service to begin; nothing of it is there. */
const VALID = {
  STRATA_REDIS: 'unix:///nowhere/redis.sock',
  STRATA_STORE: '/nowhere/store',
  STRATA_NODE: 'n1',
  STRATA_NODE_FOLDER: '/nowhere/node',
  STRATA_RUN_FOLDER: '/nowhere/run',
  STRATA_NODE_SECRET_FILE: '/nowhere/secret',
  STRATA_SOCKET: '/nowhere/s.sock',
}
const HEAD = 'strata: the configuration is not valid:'

describe('the environment', () => {
  it.each(SERVICES)('of %s: all that is wrong is said together, a line each, and the exit code is 1', (service) => {
    const wrong = {
      ...VALID,
      STRATA_REDIS: 'localhost',
      STRATA_STORE: 's3://bucket',
      STRATA_LOG_LEVEL: 'loud',
      STRATA_HEALTH: 'there',
      STRATA_PREPAER: 'true',
      STRATA_NOTHING: '1',
    }
    const { status, stdout, stderr } = run([serviceMain(service)], wrong)
    expect([status, stdout]).toEqual([1, ''])
    const [head, ...lines] = stderr.trimEnd().split('\n')
    expect(head).toBe(HEAD)
    expect(
      lines.every((line) => /^ {2}STRATA_\w+: \S/.test(line)),
      stderr,
    ).toBe(true)
    const names = lines.map((line) => line.trim().split(':')[0])
    for (const name of [
      'STRATA_REDIS',
      'STRATA_LOG_LEVEL',
      'STRATA_HEALTH',
      'STRATA_S3_ENDPOINT',
      'STRATA_S3_ACCESS_KEY',
      'STRATA_S3_SECRET_KEY',
      'STRATA_PREPAER',
      'STRATA_NOTHING',
    ])
      expect(names, stderr).toContain(name)
    expect(stderr).toContain('STRATA_PREPAER: there is no such variable; did you mean STRATA_PREPARE?')
  })

  it.each<[Service, Record<string, string>, string]>([
    [
      'gateway',
      { STRATA_SOCKET: '' },
      'STRATA_LISTEN: the gateway has no listener: set STRATA_LISTEN or STRATA_SOCKET',
    ],
    ['gateway', { STRATA_LISTEN: '127.0.0.1:1' }, 'STRATA_TOKEN_FILE: is needed with STRATA_LISTEN'],
    ['runtime', { STRATA_DOOR_LISTEN: '0.0.0.0:7' }, 'STRATA_DOOR_ADDRESS: is needed'],
    [
      'runtime',
      { STRATA_DOOR_LISTEN: '127.0.0.1:7', STRATA_DOOR_ADDRESS: 'https://here' },
      'STRATA_DOOR_ADDRESS: must be http://HOST:PORT',
    ],
    ['runtime', { STRATA_NODE: 'N 1' }, 'STRATA_NODE: must be'],
    ['extractor', { STRATA_NODE_FOLDER: '' }, 'STRATA_NODE_FOLDER: is missing'],
  ])('of %s with %j', (service, environment, line) => {
    const { status, stderr } = run([serviceMain(service)], { ...VALID, ...environment })
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringMatching(new RegExp(`^${HEAD}\\n {2}${line.replace(/[[\]]/g, '.')}[^\\n]*\\n$`)) as string,
    })
  })

  it('of all services in one process: of all of them, and nothing is made', () => {
    const data = join(folder, 'data')
    const { status, stderr } = run([serviceMain('standalone')], {
      STRATA_DATA: data,
      STRATA_EXTRACT_CONCURRENCY: '0',
      STRATA_LAUNCH_CONCURRENCY: 'many',
      STRATA_TOKN: 'x',
    })
    expect(status).toBe(1)
    for (const name of ['STRATA_EXTRACT_CONCURRENCY', 'STRATA_LAUNCH_CONCURRENCY', 'STRATA_TOKN'])
      expect(stderr).toContain(`  ${name}: `)
    expect(existsSync(join(data, 'redis'))).toBe(false)
  })

  it('a data folder whose name is not UTF-8 is refused, given by a link too, and nothing is made', () => {
    const odd = Buffer.concat([Buffer.from(join(folder, 'odd')), Buffer.from([0xff])])
    mkdirSync(odd)
    symlinkSync(odd, join(folder, 'link'))
    const before = readdirSync(folder)
    const direct = run([serviceMain('standalone')], { STRATA_DATA: odd.toString() })
    expect(direct).toMatchObject({ status: 1, stderr: `${HEAD}\n  STRATA_DATA: must be UTF-8\n` })
    const linked = run([serviceMain('standalone')], { STRATA_DATA: join(folder, 'link') })
    expect(linked).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(
        /^strata: STRATA_DATA leads to ".*odd\ufffd", whose name is not UTF-8\n$/,
      ) as string,
    })
    expect([readdirSync(folder), readdirSync(odd)]).toEqual([before, []])
  })

  it('a secret that is shared is never made by one of those who share it', () => {
    const { status, stderr } = run([serviceMain('gateway')], {
      ...VALID,
      STRATA_STORE: join(folder, 'store'),
      STRATA_NODE_SECRET_FILE: join(folder, 'secret'),
    })
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringMatching(/^strata: STRATA_NODE_SECRET_FILE: .* is not there[^\n]*\n$/) as string,
    })
    expect(existsSync(join(folder, 'secret'))).toBe(false)
  })

  it('Kubernetes’ own variables and those of the other services are let pass', () => {
    const { stderr } = run([serviceMain('ingest')], {
      ...VALID,
      STRATA_STORE: '',
      STRATA_TOKEN_FILE: '/t',
      STRATA_GATEWAY_SERVICE_HOST: '10.0.0.1',
      STRATA_GATEWAY_SERVICE_PORT_HTTP: '80',
      STRATA_GATEWAY_PORT_80_TCP_ADDR: '10.0.0.1',
      STRATA_GATEWAY_PORT: 'tcp://10.0.0.1:80',
    })
    expect(stderr).toMatch(new RegExp(`^${HEAD}\\n {2}STRATA_STORE: [^\\n]*\\n$`))
  })
})

describe('the command line', () => {
  it.each(SERVICES)('strata %s is that service: its help is its configuration, its exit code its own', (service) => {
    const help = run([CLI, service, '--help'], {})
    expect(help).toMatchObject({ status: 0, stderr: '' })
    expect(help.stdout).toContain('STRATA_REDIS  (needed)')
    expect(run([CLI, service], {})).toMatchObject({
      status: 1,
      stdout: '',
      stderr: expect.stringContaining(HEAD) as string,
    })
    expect(run([CLI, service, 'now'], VALID)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('takes no arguments') as string,
    })
  })
})

describe('the variables', () => {
  const schemas = {
    gateway: gateway.config,
    ingest: ingest.config,
    extractor: extractor.config,
    storage: storage.config,
    runtime: runtime.config,
    standalone: standaloneConfigSchema,
  }
  const CLI_ONLY = ['STRATA_HOST', 'STRATA_TLS_CA', 'STRATA_TOKEN']

  it('are those that every service knows of', () => {
    const all = new Set([...CLI_ONLY, ...Object.values(schemas).flatMap((schema) => Object.keys(schema.shape))])
    expect([...VARIABLES]).toEqual([...all].sort())
  })

  it('are each described in a line', () => {
    for (const [service, { shape }] of Object.entries(schemas)) {
      for (const [name, field] of Object.entries(shape as Readonly<Record<string, { description?: string }>>))
        expect(field.description, `${service} ${name}`).toMatch(/^[^\n|]{10,250}$/)
    }
  })
})
