import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkConfig, VARIABLES } from '@strata/platform'
import { SERVICES } from '@strata/standalone'
import { describe, expect, it } from 'vitest'
import { mountOf, readComposeFile, ROOT, type ComposeService } from './compose-file.js'
import { CONFIGS, fieldsOf } from './services.js'

const { name: project, services, volumes, networks } = readComposeFile()
const service = (name: string): ComposeService => services[name] ?? expect.fail(`there is no service ${name}`)
const environmentOf = (name: string) =>
  Object.fromEntries(
    Object.entries(service(name).environment ?? {}).map(([variable, value]) => [variable, String(value)]),
  )
const mountsOf = (name: string) => (service(name).volumes ?? []).map(mountOf)
const portOf = (address: string | undefined) => Number(address?.split(':').at(-1))
const DATA = '/var/lib/strata'
const MAKE_SECRETS = readFileSync(join(ROOT, 'infra/strata/make-secrets.sh'), 'utf8')
/** What health.sh asks. */
const HEALTH_PORT = 4799
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
    for (const [needed, { condition }] of Object.entries(needs as Exclude<typeof needs, readonly string[]>))
      if (condition === 'service_healthy') expect(service(needed).healthcheck).toBeDefined()
    expect(healthcheck?.test).toEqual(['CMD', 'bash', '/opt/strata/health.sh', '/health/ready'])
    expect(portOf(environmentOf(name)['STRATA_HEALTH'])).toBe(HEALTH_PORT)
    expect(restart).toBe('unless-stopped')
  })

  it('makes every secret that a variable names, and gives each service those and no others', () => {
    const [act, ...made] = service('secrets').command ?? []
    expect(act).toBe('make')
    for (const name of Object.keys(services)) {
      if (name === 'secrets') continue
      const named = Object.entries(environmentOf(name))
        .filter(([variable]) => variable.endsWith('_FILE'))
        .map(([, path]) => /^\/secrets\/([a-z0-9-]+)\/value$/.exec(path)?.[1] ?? expect.fail(path))
      for (const secret of named) expect(made, name).toContain(secret)
      expect(new Set(mountsOf(name).filter(({ source, target }) => /secret/.test(source + target)))).toEqual(
        new Set(
          named.map((secret) => ({
            source: `${DATA}/secrets/${secret}`,
            target: `/secrets/${secret}`,
            mode: 'ro',
          })),
        ),
      )
    }
  })

  it('makes first what docker refuses where the folder of data is relative, so that no service is stopped', () => {
    const folders = mountsOf('secrets').map(({ target }) => target)
    expect(folders).toContain(`${DATA}/node`)
    const before = (name: string): string[] => {
      const needs = service(name).depends_on ?? {}
      return (Array.isArray(needs) ? (needs as string[]) : Object.keys(needs)).flatMap((one) => [one, ...before(one)])
    }
    for (const name of Object.keys(services)) if (name !== 'secrets') expect(before(name), name).toContain('secrets')
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
    // The bucket.
    expect(MAKE_SECRETS).toContain('mkdir -p "$data/minio/strata"')
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

  it('lets nobody in but through the proxy, at one port', () => {
    expect(Object.keys(services).filter((name) => service(name).ports)).toEqual(['proxy'])
    expect(service('proxy').ports).toEqual(['127.0.0.1:4700:4700'])
    expect(networks['inside']).toEqual({ internal: true })
    for (const name of Object.keys(services))
      if (name !== 'proxy')
        expect(service(name).networks ?? service(name).network_mode, name).toEqual(
          service(name).network_mode ? 'none' : name === 'ingest' ? ['inside', 'outside'] : ['inside'],
        )
    const { STRATA_LISTEN, STRATA_HOST, STRATA_HEALTH } = environmentOf('gateway')
    const dockerfile = readFileSync(join(ROOT, 'infra/proxy/Dockerfile'), 'utf8')
    expect(dockerfile).toContain(`STRATA_GATEWAYS=gateway:${portOf(STRATA_LISTEN)} `)
    expect(dockerfile).toContain(`STRATA_HEALTH_PORT=${portOf(STRATA_HEALTH)}\n`)
    // It answers to those outside its container.
    expect([STRATA_LISTEN, STRATA_HEALTH]).toEqual([`0.0.0.0:${portOf(STRATA_HOST)}`, `0.0.0.0:${HEALTH_PORT}`])
  })

  it('gives no service more than it needs', () => {
    const version = (JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }).version
    expect(project).toBe('strata')
    for (const [name, { image, build, ...is }] of Object.entries(services)) {
      expect(is.read_only, name).toBe(true)
      expect(is.logging, name).toEqual({ driver: 'json-file', options: { 'max-size': '10m', 'max-file': '5' } })
      expect(image, name).toMatch(build === undefined ? /:\d+\.\d+-/ : new RegExp(`^strata[a-z-]*:${version}$`))
      // What it keeps is below the folder; a volume holds a socket alone.
      for (const { source } of mountsOf(name))
        expect(source === 'redis-socket' || source.startsWith(DATA) || name === 'runtime', source).toBe(true)
      expect(is.cap_drop, name).toEqual(['ALL'])
      expect([is.privileged, is.devices], name).toEqual([undefined, undefined])
      // What it has instead: runtime.root.spec.ts.
      if (name === 'runtime') continue
      expect(is.cap_add, name).toEqual(name === 'secrets' ? ['CHOWN', 'DAC_OVERRIDE', 'FOWNER'] : undefined)
      expect(is.security_opt, name).toEqual(['no-new-privileges:true'])
      expect([is.pid, is.device_cgroup_rules], name).toEqual([undefined, undefined])
      expect(is.pids_limit, name).toBeGreaterThan(0)
      if (name !== 'redis') expect(is.mem_limit, name).toMatch(/^\d+[gm]$/)
    }
  })

  it('runs a node: two services with one folder, the runtime among the processes and cgroups of the host', () => {
    const { STRATA_DOOR_LISTEN, STRATA_DOOR_ADDRESS, STRATA_NODE, STRATA_NODE_FOLDER, STRATA_RUN_FOLDER } =
      environmentOf('runtime')
    expect(STRATA_DOOR_ADDRESS).toBe(`http://runtime:${portOf(STRATA_DOOR_LISTEN)}`)
    expect(environmentOf('extractor')).toMatchObject({ STRATA_NODE, STRATA_NODE_FOLDER })
    const holds = (name: string, path: string | undefined) =>
      mountsOf(name).find(({ target }) => path?.startsWith(`${target}/`))
    const folder = { source: `${DATA}/node`, target: `${DATA}/node`, mode: 'rw' }
    for (const name of ['extractor', 'runtime']) {
      expect(STRATA_NODE_FOLDER).toBe(folder.target)
      expect(mountsOf(name)).toContainEqual(folder)
    }
    expect(holds('runtime', STRATA_RUN_FOLDER)).toEqual({ source: '/run/strata', target: '/run/strata', mode: 'rw' })
    expect(service('runtime').pid).toBe('host')
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
    expect(set['extractor']?.volumes).toContain('/srv/strata/node:/srv/strata/node')
    expect(set['proxy']?.ports).toEqual(['0.0.0.0:80:4700'])
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
      if (typeof build !== 'string' && build.target !== undefined)
        expect(readFileSync(path, 'utf8')).toMatch(new RegExp(`^FROM .* AS ${build.target}$`, 'm'))
    }
  })
})
