// Makes the fixtures of one release, with that release:
//
//     git worktree add /tmp/old d5153a4 && (cd /tmp/old && node tools/setup/run.mjs ready)
//     node tools/faults/old-data/make.mjs /tmp/old tools/faults/old-data/d5153a4     (as root)
//
// README.md says what they hold. Every service and every tool comes from that checkout; this file
// is written against commit d5153a4. A fixture is never made again: a release that changes what is
// on disk gets a folder of its own beside the older ones.
import { execFileSync } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { pathToFileURL } from 'node:url'
import { gzipSync } from 'node:zlib'

const [checkout, target] = process.argv.slice(2, 4).map((path) => resolve(path))
const kinds = process.argv.length > 4 ? process.argv.slice(4) : ['folder', 'bucket']
if (target === undefined) throw new Error('usage: make.mjs CHECKOUT TARGET [folder] [bucket]')
const of = (path) => import(pathToFileURL(join(checkout, path)).href)
const { StrataUnderTest, until } = await of('tools/e2e/dist/testing/index.js')
const { makeArchive, makeLayer, TestLayout } = await of('libs/archive/dist/testing/index.js')
const { mountTable, umount } = await of('libs/linux/dist/index.js')
const { TestS3 } = await of('libs/store/dist/testing/index.js')
const { Client } = createRequire(join(checkout, 'libs/store/package.json'))('minio')
const { Redis } = createRequire(join(checkout, 'libs/queue/package.json'))('ioredis')

/** The node of every fixture: it must not follow from where the data lie. */
const NODE = 'old-data'
const RUN = `/run/strata/${NODE}`
const orders = mkdtempSync('/var/tmp/strata-orders-')
const environment = {
  STRATA_NODE: NODE,
  STRATA_RUN_FOLDER: RUN,
  STOP_AT: orders,
  NODE_OPTIONS: `--import ${pathToFileURL(join(checkout, 'tools/faults/stop-at.mjs')).href}`,
}

/**
 * A program of 129 bytes, so that fixtures stay small (x86-64 only): prints `hello`, then exits
 * with 7, or with an argument sleeps for ever.
 */
function program() {
  const text = 'hello from an older release\n'
  const code = Buffer.from(
    [
      'b801000000', // mov eax, 1 (write)
      'bf01000000', // mov edi, 1
      '488d3500000000', // lea rsi, [rip + …]: the text behind the code
      `ba${Buffer.from([text.length, 0, 0, 0]).toString('hex')}`, // mov edx, length
      '0f05', // syscall
      '48833c2401', // cmp qword [rsp], 1: argc
      '7f0c', // jg sleep
      'b83c000000', // mov eax, 60 (exit)
      'bf07000000', // mov edi, 7
      '0f05', // syscall
      'b822000000', // sleep: mov eax, 34 (pause)
      '0f05', // syscall
      'ebf7', // jmp sleep
    ].join(''),
    'hex',
  )
  // The displacement counts from the end of the lea, at byte 17.
  code.writeInt32LE(code.length - 17, 13)
  const body = Buffer.concat([code, Buffer.from(text)])
  const header = Buffer.alloc(120)
  Buffer.from('7f454c46020101', 'hex').copy(header)
  header.writeUInt16LE(2, 16) // an executable
  header.writeUInt16LE(62, 18) // x86-64
  header.writeUInt32LE(1, 20)
  header.writeBigUInt64LE(0x400078n, 24) // entry
  header.writeBigUInt64LE(64n, 32) // program headers
  header.writeUInt16LE(64, 52)
  header.writeUInt16LE(56, 54)
  header.writeUInt16LE(1, 56)
  header.writeUInt32LE(1, 64) // PT_LOAD
  header.writeUInt32LE(5, 68) // read, execute
  header.writeBigUInt64LE(0x400000n, 80)
  header.writeBigUInt64LE(0x400000n, 88)
  header.writeBigUInt64LE(BigInt(120 + body.length), 96)
  header.writeBigUInt64LE(BigInt(120 + body.length), 104)
  header.writeBigUInt64LE(0x1000n, 112)
  return Buffer.concat([header, body])
}

const base = await makeLayer(
  new Map([
    ['bin', { folder: true }],
    ['bin/hello', { content: program(), mode: 0o755 }],
    ['etc', { folder: true }],
    ['etc/old', { content: 'release\n' }],
    ['etc/gone', { content: 'x' }],
  ]),
)
const upper = await makeLayer(
  new Map([
    ['etc/new', { content: 'n'.repeat(70_000) }],
    ['etc/.wh.gone', { content: '' }],
    ['etc/link', { symlink: 'new' }],
  ]),
)
const config = { Entrypoint: ['/bin/hello'], Env: ['PATH=/bin'], Labels: { from: 'old' } }

async function platforms() {
  const layout = new TestLayout()
  const other = await layout.image('arm64', undefined, (tar) => gzipSync(tar))
  const index = layout.index([await layout.image('amd64'), other])
  return layout.tar([{ ...index, annotations: { 'io.containerd.image.name': 'docker.io/old/many:1' } }])
}

/** An OCI image with packed layers: an extractor has to make them. */
async function packed(name, text) {
  const layout = new TestLayout()
  const tar = await makeLayer(new Map([['only', { content: text }]]))
  const digest = (bytes) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
  const image = layout.add(
    { os: 'linux', architecture: 'amd64', config: {}, rootfs: { type: 'layers', diff_ids: [digest(tar)] } },
    'application/vnd.oci.image.config.v1+json',
  )
  const layer = layout.add(gzipSync(tar), 'application/vnd.oci.image.layer.v1.tar+gzip')
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const manifest = layout.add({ schemaVersion: 2, mediaType, config: image, layers: [layer] }, mediaType)
  return layout.tar([{ ...manifest, annotations: { 'io.containerd.image.name': `docker.io/${name}` } }])
}

async function ok(answer, ...statuses) {
  const { status, bytes } = await answer
  if (!statuses.includes(status)) throw new Error(`${status}: ${bytes.toString()}`)
  return status === 204 ? undefined : JSON.parse(bytes.toString() || 'null')
}
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const ref = encodeURIComponent

async function make(kind) {
  const s3 = kind === 'bucket' ? await TestS3.start('minio', '/var/tmp') : undefined
  const strata = await StrataUnderTest.start({ topology: 'standalone', store: s3 ?? 'folder', environment }).catch(
    async (error) => {
      await s3?.remove()
      throw error
    },
  )
  const post = (path, body, options) => strata.request('POST', path, body, options)
  const load = (bytes, query = '') => ok(post(`/v1/images${query}`, Readable.from([bytes])), 201)
  try {
    // Images: a docker archive with two names and an image of its first layer, several platforms,
    // a root file system, a packed layer.
    await load(
      await makeArchive(
        { names: ['old/hello:1', 'localhost:5000/deep/old/hello:same'], layers: [base, upper], config },
        { names: ['old/base:1'], layers: [base], config },
      ),
    )
    await load(await platforms(), '?platform=all')
    await load(await packed('old/packed:1', 'packed\n'))
    await load(base, `?import=${ref('old/tree:1')}&platform=linux/amd64`)
    // What is gone, with what is left of it.
    await load(await packed('old/gone:1', 'gone\n'), '?job=11111111-1111-4111-8111-111111111111')
    await ok(strata.request('DELETE', `/v1/images/${ref('old/gone:1')}`), 200, 204)
    await ok(post('/v1/gc', {}), 200, 201)

    // Containers: one that ended, one that runs and will be found dead, one that is only created.
    const ended = await ok(post('/v1/containers', { image: 'old/hello:1', name: 'ended' }), 201)
    await ok(post(`/v1/containers/${ended.id}/wait`), 200)
    const running = await ok(post('/v1/containers', { image: 'old/base:1', name: 'running', command: ['sleep'] }), 201)
    const expected = {
      images: [],
      lists: (await ok(strata.request('GET', '/v1/images'), 200)).images,
      logs: (await strata.request('GET', `/v1/containers/${ended.id}/logs?stream=stdout`)).bytes.toString(),
      containers: { ended: ended.id, running: running.id },
    }
    for (const { names, digest } of expected.lists) {
      const one = ref(names[0] ?? digest)
      expected.images.push({
        view: await ok(strata.request('GET', `/v1/images/${one}`), 200),
        archive: sha256((await strata.request('GET', `/v1/images/${one}/archive`)).bytes),
      })
    }
    writeFileSync(join(orders, 'launch.placed'), 'SIGKILL 1')
    const jobs = { load: randomUUID(), launch: randomUUID(), unfinished: randomUUID() }
    expected.jobs = jobs
    const created = await ok(
      post(`/v1/containers?wait=false&job=${jobs.launch}`, { image: 'old/hello:1', name: 'created' }),
      202,
    )
    expected.containers.created = created.id
    await until(() => readdirSync(orders).includes('launch.placed.taken'), 'the launch is placed')
    await strata.stop('SIGKILL')

    // Without a node: a load whose layers wait for an extractor, and a load that stops in the
    // middle of its bytes. The launch of before waits for its runtime.
    await strata.startGroup(['gateway', 'ingest', 'storage'], true)
    const isUp = () =>
      strata.request('GET', '/v1/images').then(
        ({ status }) => status === 200,
        () => false,
      )
    await until(isUp, 'the gateway answers')
    await ok(post(`/v1/images?wait=false&job=${jobs.load}`, Readable.from([await packed('old/late:1', 'late\n')])), 202)
    // Active, then waiting for its children.
    await until(async () => (await children(strata)) > 0, 'the load waits for an extractor')
    const body = new PassThrough()
    body.write((await makeArchive({ names: ['old/half:1'], layers: [base, upper], config })).subarray(0, 60_000))
    post(`/v1/images?job=${jobs.unfinished}`, body).catch(() => undefined)
    const store = await strata.store()
    await until(async () => (await store.list('uploads/')).objects.length === 2, 'an upload is under way')
    await strata.stop('SIGKILL')
    const redis = new Redis({ path: strata.redisSocket, retryStrategy: null })
    redis.on('error', () => undefined)
    // The answer to a shutdown is the end of the connection.
    await redis.shutdown().catch(() => undefined)
    killNamed(RUN)
    await unmounted(strata.data)

    mkdirSync(target, { recursive: true })
    const parts = mkdtempSync('/var/tmp/strata-fixture-')
    renameSync(strata.data, join(parts, 'data'))
    for (const name of ['redis.sock', 'redis.log', 'lock']) rmSync(join(parts, 'data/redis', name), { force: true })
    // The addresses of the machine on which this runs are nobody's business.
    for (const name of readdirSync(join(parts, 'data/node/containers')))
      if (existsSync(join(parts, 'data/node/containers', name, 'resolv.conf')))
        writeFileSync(join(parts, 'data/node/containers', name, 'resolv.conf'), 'nameserver 192.0.2.1\n')
    if (s3) await copyBucket(s3, join(parts, 'bucket'))
    writeFileSync(join(parts, 'expected.json'), `${JSON.stringify(expected, undefined, 1)}\n`)
    const tar = join(target, `${kind}.tar.zst`)
    const options = ['--xattrs', '--xattrs-include=*', '--numeric-owner', '--sort=name', '-I', 'zstd -19']
    execFileSync('tar', [...options, '-C', parts, '-cf', tar, '.'], { stdio: 'inherit' })
    rmSync(parts, { recursive: true })
  } finally {
    await strata.remove()
    await s3?.remove()
  }
}

async function children(strata) {
  const redis = new Redis({ path: strata.redisSocket })
  redis.on('error', () => undefined)
  try {
    return (await redis.zcard('strata-q:ingest:waiting-children')) ?? 0
  } finally {
    redis.disconnect()
  }
}

/** Every object as a file named by its key. */
async function copyBucket(s3, folder) {
  const { hostname, port } = new URL(s3.endpoint)
  const { accessKey, secretKey } = s3
  const client = new Client({ endPoint: hostname, port: Number(port), useSSL: false, accessKey, secretKey })
  for await (const { name } of client.listObjectsV2(s3.bucket, '', true)) {
    const path = join(folder, name)
    mkdirSync(dirname(path), { recursive: true })
    await client.fGetObject(s3.bucket, name, path)
  }
}

/** Ends monitors first, so that nobody records how their containers end. */
function killNamed(text) {
  for (const kind of ['conmon', '']) {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      const read = (name) => {
        try {
          return readFileSync(`/proc/${pid}/${name}`, 'latin1')
        } catch {
          return ''
        }
      }
      const isOurs = read('cmdline').includes(text) || read('cgroup').includes(`/strata-${NODE}`)
      if (isOurs && Number(pid) !== process.pid && (kind === '' || read('comm').includes(kind)))
        process.kill(Number(pid), 'SIGKILL')
    }
  }
}

async function unmounted(folder) {
  for (const { mountPoint } of mountTable()
    .filter((one) => one.mountPoint.startsWith(`${folder}/`))
    .reverse())
    umount(mountPoint, 2)
  rmSync(RUN, { recursive: true, force: true })
  await until(() => removeCgroups(), 'no process is left in a cgroup')
}

function removeCgroups() {
  try {
    for (const { mountPoint } of mountTable().filter(({ fsType }) => fsType.startsWith('cgroup'))) {
      const root = join(mountPoint, `strata-${NODE}`)
      const folders = readdirSync(mountPoint).includes(`strata-${NODE}`)
        ? [
            root,
            ...readdirSync(root, { recursive: true, withFileTypes: true })
              .filter((one) => one.isDirectory())
              .map((one) => join(one.parentPath, one.name)),
          ]
        : []
      for (const path of folders.reverse()) rmdirSync(path)
    }
    return true
  } catch {
    return false
  }
}

try {
  for (const kind of kinds) {
    await make(kind)
    console.log(kind)
  }
} finally {
  rmSync(orders, { recursive: true, force: true })
}
