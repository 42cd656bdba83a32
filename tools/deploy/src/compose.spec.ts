import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkConfig, VARIABLES } from '@strata/platform'
import { SERVICES } from '@strata/standalone'
import { describe, expect, it } from 'vitest'
import { COMPOSE_FILE, mountOf, readComposeFile, ROOT, type ComposeService } from './compose-file.js'
import { CONFIGS, fieldsOf } from './services.js'

const { services, volumes, networks } = readComposeFile()
const service = (name: string): ComposeService => services[name] ?? expect.fail(`there is no service ${name}`)
const environmentOf = (name: string) =>
  Object.fromEntries(
    Object.entries(service(name).environment ?? {}).map(([variable, value]) => [variable, String(value)]),
  )
const mountsOf = (name: string) => (service(name).volumes ?? []).map(mountOf)
const portOf = (address: string | undefined) => Number(address?.split(':').at(-1))
/** What the command line takes, in the gateway's container. */
const CLI = ['STRATA_HOST']

describe('docker-compose.yml', () => {
  it.each(SERVICES)(
    'gives %s an environment that it starts with: nothing missing, nothing wrong, nothing that it does not read',
    (name) => {
      const environment = environmentOf(name)
      checkConfig([CONFIGS[name]], environment)
      const read = new Set([
        ...fieldsOf(CONFIGS[name]).map(([variable]) => variable),
        ...(name === 'gateway' ? CLI : []),
      ])
      expect(Object.keys(environment).filter((variable) => !read.has(variable))).toEqual([])
      expect(Object.keys(environment).filter((variable) => !VARIABLES.includes(variable))).toEqual([])
      expect(service(name).command).toEqual([name])
    },
  )

  it.each(SERVICES)('would not do without any variable that %s needs', (name) => {
    const needed = fieldsOf(CONFIGS[name]).filter(([, field]) => !field.safeParse(undefined).success)
    expect(needed.length).toBeGreaterThan(0)
    for (const [variable] of needed)
      expect(() => checkConfig([CONFIGS[name]], { ...environmentOf(name), [variable]: '' })).toThrow(variable)
  })

  it.each(SERVICES)('waits for what %s needs, and asks it for its health where it answers', (name) => {
    const { depends_on: needs = {}, healthcheck, restart } = service(name)
    expect(needs).toMatchObject({
      secrets: { condition: 'service_completed_successfully' },
      redis: { condition: 'service_healthy' },
      minio: { condition: 'service_healthy' },
    })
    for (const [needed, { condition }] of Object.entries(needs))
      if (condition === 'service_healthy') expect(service(needed).healthcheck).toBeDefined()
    expect(healthcheck?.test.join(' ')).toContain(`http://${environmentOf(name)['STRATA_HEALTH']!}/health/ready`)
    expect(restart).toBe('unless-stopped')
  })

  it('makes every secret that a variable names, and mounts it where it is named', () => {
    const [folder, ...made] = service('secrets').command ?? []
    for (const name of [...SERVICES, 'minio'])
      for (const [variable, path] of Object.entries(environmentOf(name))) {
        if (!variable.endsWith('_FILE')) continue
        expect(mountsOf(name), name).toContainEqual({ source: 'secrets', target: folder, mode: 'ro' })
        expect(
          made.map((secret) => `${folder!}/${secret}`),
          variable,
        ).toContain(path)
      }
  })

  it('has no secret in it', () => {
    for (const name of Object.keys(services))
      for (const [variable, value] of Object.entries(environmentOf(name)))
        if (/SECRET|PASSWORD|TOKEN/.test(variable)) expect(`${variable}: ${value}`).toMatch(/_FILE: \//)
  })

  it('has one Redis and one bucket, that all services are told of', () => {
    const redis = service('redis').command ?? []
    const socket = redis[redis.indexOf('--unixsocket') + 1]!
    expect(redis.join(' ')).toMatch(/--port 0 .*--appendonly yes .*--maxmemory-policy noeviction/)
    expect(service('minio').entrypoint?.join(' ')).toContain('mkdir -p /data/strata ')
    for (const name of SERVICES) {
      const { STRATA_REDIS, STRATA_STORE, STRATA_S3_ENDPOINT, STRATA_S3_ACCESS_KEY, STRATA_S3_SECRET_KEY_FILE } =
        environmentOf(name)
      expect(STRATA_REDIS).toBe(`unix://${socket}`)
      expect([STRATA_STORE, STRATA_S3_ENDPOINT]).toEqual(['s3://strata', 'http://minio:9000'])
      expect([STRATA_S3_ACCESS_KEY, STRATA_S3_SECRET_KEY_FILE]).toEqual([
        environmentOf('minio')['MINIO_ROOT_USER'],
        environmentOf('minio')['MINIO_ROOT_PASSWORD_FILE'],
      ])
      expect(mountsOf(name)).toContainEqual({ source: 'redis-socket', target: '/run/redis', mode: 'rw' })
    }
  })

  it('lets nobody in but through the gateway', () => {
    expect(Object.keys(services).filter((name) => service(name).ports)).toEqual(['gateway'])
    expect(networks['inside']).toEqual({ internal: true })
    for (const name of Object.keys(services))
      if (name !== 'gateway')
        expect(service(name).networks ?? service(name).network_mode, name).toEqual(
          service(name).network_mode ? 'none' : ['inside'],
        )
    const [host, , container] = /^(.*):(.*):(\d+)$/.exec(service('gateway').ports?.[0] ?? '')?.slice(1) ?? []
    expect(host).toBe('127.0.0.1')
    const { STRATA_LISTEN, STRATA_HOST } = environmentOf('gateway')
    expect([portOf(STRATA_LISTEN), portOf(STRATA_HOST)]).toEqual([Number(container), Number(container)])
  })

  it('runs a node: two services with one folder, the runtime among the processes and cgroups of the host', () => {
    const { STRATA_DOOR_LISTEN, STRATA_DOOR_ADDRESS, STRATA_NODE, STRATA_NODE_FOLDER, STRATA_RUN_FOLDER } =
      environmentOf('runtime')
    expect(STRATA_DOOR_ADDRESS).toBe(`http://runtime:${portOf(STRATA_DOOR_LISTEN)}`)
    expect(environmentOf('extractor')).toMatchObject({ STRATA_NODE, STRATA_NODE_FOLDER })
    const holds = (name: string, path: string | undefined) =>
      mountsOf(name).find(({ target }) => path?.startsWith(`${target}/`))
    expect(holds('extractor', STRATA_NODE_FOLDER)).toEqual({
      source: '/var/lib/strata',
      target: '/var/lib/strata',
      mode: 'rw',
    })
    expect(holds('runtime', STRATA_NODE_FOLDER)).toEqual({
      source: '/var/lib/strata',
      target: '/var/lib/strata',
      mode: 'rw',
    })
    expect(holds('runtime', STRATA_RUN_FOLDER)).toEqual({ source: '/run/strata', target: '/run/strata', mode: 'rw' })
    expect(service('runtime')).toMatchObject({ privileged: true, pid: 'host' })
    expect(service('runtime').entrypoint?.join(' ')).toBe('nsenter --target 1 --cgroup --uts -- strata')
  })

  it('follows what may be set beside it', () => {
    const set = readComposeFile({
      STRATA_DATA: '/srv/strata',
      STRATA_NODE: 'other',
      STRATA_PORT: '0.0.0.0:80',
      STRATA_LOG_LEVEL: 'debug',
    }).services
    expect(set['runtime']?.environment).toMatchObject({
      STRATA_NODE: 'other',
      STRATA_NODE_FOLDER: '/srv/strata/node',
      STRATA_RUN_FOLDER: '/run/strata/other',
      STRATA_LOG_LEVEL: 'debug',
    })
    expect(set['extractor']?.volumes).toContain('/srv/strata:/srv/strata')
    expect(set['gateway']?.ports).toEqual(['0.0.0.0:80:4700'])
  })

  it('names volumes that it declares, and Dockerfiles with their stages', () => {
    for (const name of Object.keys(services)) {
      for (const { source } of mountsOf(name))
        if (!source.startsWith('/')) expect(Object.keys(volumes)).toContain(source)
      const { build } = service(name)
      if (build === undefined) continue
      const path =
        typeof build === 'string' ? join(ROOT, build, 'Dockerfile') : join(ROOT, build.context, build.dockerfile)
      expect(existsSync(path), path).toBe(true)
      if (typeof build !== 'string')
        expect(readFileSync(path, 'utf8')).toMatch(new RegExp(`^FROM .* AS ${build.target}$`, 'm'))
    }
  })

  it('is taken by docker-compose', (context) => {
    const run = spawnSync('docker-compose', ['--file', COMPOSE_FILE, 'config', '--quiet'], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], HOME: '/nonexistent' },
    })
    if (run.error) return context.skip('docker-compose is not installed (apt-get install docker-compose)')
    expect(run.stderr).toBe('')
    expect(run.status).toBe(0)
  })
})
