import { randomBytes } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { NODE_FLAGS, SERVICE_ENVIRONMENT, serviceMain } from '../../../apps/cli/dist/service.js'
import { ask, end, start } from '../processes.mjs'

const ROOT = join(import.meta.dirname, '../../..')

/**
 * A registry: `name`, `version`, `urls` (each a process), `header` of every request,
 * `watch(peaks)`, `stop()`. Its blobs lie in a folder of its own, or in a bucket of `minio`.
 */

/**
 * Gateways, two if nothing else is asked for, and a storage service. Over TCP each request has the
 * token. `own` are further variables of all of them.
 */
export async function strataRegistry(workspace, minio, { names = ['gateway-1', 'gateway-2'], own: more = {} } = {}) {
  const data = workspace.part('strata')
  const children = []
  const begin = async (program, args, options) => {
    const child = await start(program, args, options)
    children.push(child)
    return child
  }
  const redis = join(data, 'redis.sock')
  await begin(
    'redis-server',
    ['--port', '0', '--unixsocket', redis, '--dir', data, '--save', '', '--maxmemory-policy', 'noeviction'],
    { log: join(data, 'redis.log'), isReady: () => ask('redis-cli', ['-s', redis, 'ping']) === 'PONG' },
  )
  const [token, secret] = ['token', 'node-secret'].map((name) => {
    const file = join(data, name)
    writeFileSync(file, randomBytes(32).toString('hex'), { mode: 0o600 })
    return file
  })
  const environment = {
    STRATA_LOG_LEVEL: 'warn',
    ...SERVICE_ENVIRONMENT,
    STRATA_REDIS: `unix://${redis}`,
    ...(minio ? minio.environment() : { STRATA_STORE: join(data, 'store') }),
    ...more,
  }
  const service = (app, name, own, socket, path) =>
    begin(join(ROOT, 'node_modules/.bin/node'), [...NODE_FLAGS, serviceMain(app)], {
      env: { ...environment, ...own },
      log: join(data, `${name}.log`),
      isReady: () => ask('curl', ['-sf', '--unix-socket', socket, `http://strata${path}`]) !== undefined,
    })
  const health = join(data, 'storage.sock')
  const storage = await service('storage', 'storage', { STRATA_HEALTH: health }, health, '/health/ready')
  const gateways = []
  for (const name of names) {
    const port = await freePort()
    const socket = join(data, `${name}.sock`)
    const own = {
      STRATA_SOCKET: socket,
      STRATA_LISTEN: `127.0.0.1:${port}`,
      STRATA_TOKEN_FILE: token,
      STRATA_NODE_SECRET_FILE: secret,
    }
    const child = await service('gateway', name, own, socket, '/v2/')
    gateways.push({ name, pid: child.pid, url: `http://127.0.0.1:${port}`, socket })
  }
  const password = ask('cat', [token])
  return {
    name: 'Strata, two gateways',
    isOurs: true,
    version: `Strata on Node.js ${process.versions.node}`,
    urls: gateways.map(({ url }) => url),
    gateways,
    storage: storage.pid,
    header: `Authorization: Basic ${Buffer.from(`bench:${password}`).toString('base64')}`,
    watch: (peaks) => gateways.forEach(({ pid, name }) => peaks.watch(pid, name)),
    stop: async () => {
      for (const child of children.reverse()) await end(child)
      rmSync(data, { recursive: true, force: true })
    },
  }
}

/** CNCF distribution, as `program` serves it: Debian's, or one that Go has built. */
export async function distribution(workspace, minio, { name, program, version }) {
  const data = workspace.part('registry')
  const port = await freePort()
  const storage = minio
    ? {
        s3: {
          accesskey: minio.environment().STRATA_S3_ACCESS_KEY,
          secretkey: minio.environment().STRATA_S3_SECRET_KEY,
          region: 'us-east-1',
          regionendpoint: minio.endpoint,
          bucket: minio.bucket,
          secure: false,
          v4auth: true,
        },
        // Through the registry, as with ours.
        redirect: { disable: true },
      }
    : { filesystem: { rootdirectory: join(data, 'store'), maxthreads: 100 } }
  const config = join(data, 'config.yml')
  // YAML is a superset of JSON.
  writeFileSync(
    config,
    JSON.stringify({
      version: 0.1,
      log: { level: 'error', accesslog: { disabled: true } },
      storage: { ...storage, delete: { enabled: true } },
      http: { addr: `127.0.0.1:${port}`, secret: 'bench' },
    }),
  )
  const url = `http://127.0.0.1:${port}`
  const child = await start(program, ['serve', config], {
    // Debian's does not start with an authority of the machine's for S3.
    env: { OTEL_TRACES_EXPORTER: 'none', AWS_CA_BUNDLE: undefined },
    log: join(data, 'log'),
    isReady: () => ask('curl', ['-sf', `${url}/v2/`]) !== undefined,
  })
  return {
    name,
    isOurs: false,
    version,
    urls: [url],
    header: 'Accept-Language: *',
    watch: (peaks) => peaks.watch(child.pid, name),
    stop: async () => {
      await end(child)
      rmSync(data, { recursive: true, force: true })
    },
  }
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}
