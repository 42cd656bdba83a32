import { execFileSync, spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import {
  appendFileSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
  closeSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { JobView } from '@strata/api'
import { header, makeArchive, makeLayer } from '@strata/archive/testing'
import { MS_BIND, mount, umount } from '@strata/linux'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { nameDescriptor, type Naming } from './testing/descriptor-client.js'
import { settledStore } from './testing/store-state.js'
import { CLI, standsStill, StrataUnderTest, until } from './testing/strata.js'

const O_PATH = 0o10000000
/** A user without rights, in the group that may use the socket. */
const NOBODY = ['setpriv', '--reuid', '65534', '--regid', '0', '--clear-groups'] as const
const ROOT = fileURLToPath(new URL('../../..', import.meta.url))
const STOP_AT = new URL('../../faults/stop-at.mjs', import.meta.url).href

let strata: StrataUnderTest
let folder: string
let archive: Buffer
let listen: string
let stops: string
beforeAll(async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  listen = `127.0.0.1:${(server.address() as { port: number }).port}`
  await new Promise((resolve) => server.close(resolve))
  folder = mkdtempSync('/var/tmp/strata-fast-door-')
  chmodSync(folder, 0o755)
  // Where the checkout itself lies, a user without rights may not come.
  mkdirSync(checkout())
  mount(ROOT, checkout(), 'none', MS_BIND)
  stops = join(folder, 'stops')
  mkdirSync(stops)
  strata = await StrataUnderTest.start({
    environment: {
      STRATA_PREPARE: 'false',
      STRATA_LISTEN: listen,
      STOP_AT: stops,
      NODE_OPTIONS: `--import ${STOP_AT}`,
    },
  })
  chmodSync(strata.folder, 0o711)
  archive = await makeArchive({
    names: ['fast/door:1'],
    layers: [await makeLayer(new Map([['etc/secret', { content: randomBytes(3_000_000) }]]))],
  })
})
afterAll(async () => {
  await strata.dispose()
  umount(checkout())
  rmSync(folder, { recursive: true, force: true })
})
afterEach(async () => {
  for (const { id } of await strata.images())
    await strata.request('DELETE', `/v1/images/${encodeURIComponent(id)}?force`)
})

const checkout = () => join(folder, 'checkout')
const reachable = (path: string) => (path.startsWith(ROOT) ? join(checkout(), relative(ROOT, path)) : path)

function fileWith(bytes: Buffer | string, mode = 0o600, owner?: number): string {
  const path = join(folder, randomUUID())
  writeFileSync(path, bytes)
  if (owner !== undefined) execFileSync('chown', [String(owner), path])
  chmodSync(path, mode)
  return path
}
const name = (naming: Naming) => nameDescriptor(strata.socket, { node: reachable(process.execPath), ...naming })
const names = async () => (await strata.images()).flatMap((image) => image.names)
const job = async (id: string): Promise<JobView> => (await strata.request('GET', `/v1/jobs/${id}`)).json<JobView>()
const LOADED = { status: 201, images: [{ names: ['fast/door:1'] }] }
const REFUSED = { status: 415, code: 'descriptor_refused' }

describe('a descriptor', () => {
  it('is read by the service', async () => {
    expect(await name({ path: fileWith(archive) })).toMatchObject(LOADED)
    expect(await names()).toEqual(['fast/door:1'])
  })

  it('of an unprivileged caller, on a file of its own', async () => {
    expect(await name({ path: fileWith(archive, 0o400, 65534), under: NOBODY })).toMatchObject(LOADED)
  })

  it('in another mount namespace', async () => {
    const path = fileWith(archive)
    const hidden = join(folder, 'hidden')
    mkdirSync(hidden)
    const under = [
      'unshare',
      '-m',
      'sh',
      '-c',
      `mount -t tmpfs tmpfs ${hidden} && cp ${path} ${hidden}/a.tar && exec "$@"`,
      'sh',
    ]
    expect(await name({ path: join(hidden, 'a.tar'), under })).toMatchObject(LOADED)
    expect(existsSync(join(hidden, 'a.tar'))).toBe(false)
  })

  it('open for reading and writing, and of a packed archive', async () => {
    expect(await name({ path: fileWith(archive), flags: constants.O_RDWR })).toMatchObject(LOADED)
    const packed = execFileSync('gzip', ['-c'], { input: archive, maxBuffer: 2 ** 26 })
    expect(await name({ path: fileWith(packed) })).toMatchObject(LOADED)
  })

  it('goes on with the file it names, whatever its name stands for now', async () => {
    const path = fileWith(archive)
    const id = randomUUID()
    const answer = await whileStopped(
      () => name({ path, query: `?job=${id}` }),
      () => renameSync(fileWith('another'), path),
    )
    expect(answer).toMatchObject(LOADED)
  })
})

describe('what the caller may not read does not come in', () => {
  it('a file that only root may read, opened by O_PATH', async () => {
    const path = fileWith(archive)
    expect(await name({ path, flags: O_PATH, under: NOBODY })).toMatchObject(REFUSED)
    expect(await name({ path, flags: O_PATH | constants.O_RDWR, under: NOBODY })).toMatchObject(REFUSED)
    await expect(name({ path, under: NOBODY })).rejects.toThrow('EACCES')
    expect(await names()).toEqual([])
  })

  it('a file that the caller may write, and not read', async () => {
    const path = fileWith(archive, 0o622)
    expect(await name({ path, flags: constants.O_WRONLY, under: NOBODY })).toMatchObject(REFUSED)
    expect(await name({ path, flags: constants.O_WRONLY })).toMatchObject(REFUSED)
    expect(await names()).toEqual([])
  })

  it('a process with more rights than its user, as a setuid program has', async () => {
    expect(await name({ path: fileWith(archive), connectAs: 65534 })).toMatchObject({
      ...REFUSED,
      detail: expect.stringContaining('does not act for its user') as string,
    })
    expect(await names()).toEqual([])
  })

  it('a caller in a user namespace', async () => {
    expect(await name({ path: fileWith(archive), under: ['unshare', '-Ur'] })).toMatchObject({
      ...REFUSED,
      detail: expect.stringContaining('user namespace') as string,
    })
  })

  it('a descriptor that is none, or of another file', async () => {
    const path = fileWith(archive)
    for (const fd of [999_999, 2 ** 31 - 1]) expect(await name({ path, lie: { fd } })).toMatchObject(REFUSED)
    for (const fd of [-1, 2 ** 31, 1.5, '3', null])
      expect(await name({ path, lie: { fd } })).toMatchObject({ status: 400, code: 'bad_request' })
    expect(await name({ path, lie: { ino: '1' } })).toMatchObject(REFUSED)
    expect(await name({ path, lie: { dev: '1' } })).toMatchObject(REFUSED)
    // Open here, in the test's own process, and not in the client's, which has fewer files open.
    const mine = Array.from({ length: 100 }, () => openSync(path, 'r'))
    expect(await name({ path: fileWith('x'), lie: { fd: Math.max(...mine) } })).toMatchObject(REFUSED)
    mine.forEach((fd) => closeSync(fd))
    expect(await names()).toEqual([])
  })

  it('what is no regular file', async () => {
    const fifo = join(folder, 'fifo')
    execFileSync('mkfifo', [fifo])
    for (const [path, flags] of [
      [fifo, constants.O_RDONLY | constants.O_NONBLOCK],
      [folder, constants.O_RDONLY],
      ['/dev/zero', constants.O_RDONLY],
    ] as const) {
      expect(await name({ path, flags, lie: { size: '5' } }), path).toMatchObject(REFUSED)
    }
  })

  it('over TCP', async () => {
    const token = readFileSync(strata.tokenFile, 'utf8').trim()
    expect(
      await nameDescriptor(listen, { path: fileWith(archive) }, { authorization: `Bearer ${token}` }),
    ).toMatchObject(REFUSED)
  })

  it('a body that names nothing', async () => {
    for (const lie of [{ fd: {} }, { size: '-1' }, { mtimeNs: 'x' }, { ino: 'x'.repeat(5000) }])
      expect(await name({ path: fileWith(archive), lie })).toMatchObject({ status: 400, code: 'bad_request' })
  })
})

/** Begins, lets the service stop at the first byte, acts, and lets it go on. */
async function whileStopped<T>(begin: () => Promise<T>, act: () => void): Promise<T> {
  writeFileSync(join(stops, 'load.first-bytes'), 'SIGSTOP 1')
  const answer = begin()
  await until(() => existsSync(join(stops, 'load.first-bytes.taken')), 'stopped')
  const pid = Number(readFileSync(join(stops, 'load.first-bytes.taken'), 'utf8'))
  rmSync(join(stops, 'load.first-bytes.taken'))
  // It says so before it does it.
  await until(() => standsStill(pid), 'stopped')
  try {
    act()
  } finally {
    process.kill(pid, 'SIGCONT')
  }
  return answer
}

describe('a file that changes', () => {
  const CHANGES: Record<string, (path: string) => void> = {
    'is written to': (path) => {
      const fd = openSync(path, 'r+')
      writeSync(fd, Buffer.from('x'), 0, 1, 2_000_000)
      closeSync(fd)
    },
    'becomes shorter': (path) => truncateSync(path, 1_000_000),
    'becomes longer': (path) => appendFileSync(path, 'more'),
    'is emptied': (path) => truncateSync(path, 0),
  }
  for (const [what, change] of Object.entries(CHANGES)) {
    it(`${what} while it is read is refused, and nothing of it stays`, async () => {
      const before = await settledStore(strata)
      const path = fileWith(archive)
      const id = randomUUID()
      const answer = await whileStopped(
        () => name({ path, query: `?job=${id}` }),
        () => change(path),
      )
      expect(answer).toMatchObject({ status: 409, code: 'archive_changed' })
      expect(await job(id)).toMatchObject({ state: 'failed', error: { code: 'archive_changed' } })
      expect(await settledStore(strata)).toEqual(before)
    })
  }

  it('before it is read, since the caller looked', async () => {
    const path = fileWith(archive)
    expect(await name({ path, lie: { size: '5' } })).toMatchObject({ code: 'archive_changed' })
    expect(await name({ path, lie: { mtimeNs: '5' } })).toMatchObject({ code: 'archive_changed' })
  })
})

describe('strata load', () => {
  const COUNTING = `--import data:text/javascript,${encodeURIComponent("process.on('exit',()=>process.stderr.write('read '+/rchar: ([0-9]+)/.exec(process.getBuiltinModule('node:fs').readFileSync('/proc/self/io','utf8'))[1]))")}`
  /**
   * Runs a shell line in which $STRATA is the command; also tells how many bytes the command read.
   */
  async function shell(
    line: string,
    options: { host?: string; under?: readonly string[]; environment?: Record<string, string> } = {},
  ): Promise<{ code: number; stdout: string; stderr: string; read: number }> {
    const [program, ...args] = [...(options.under ?? []), 'sh', '-c', line]
    const child = spawn(program, args, {
      env: {
        PATH: process.env['PATH'] ?? '',
        STRATA: `${reachable(process.execPath)} ${reachable(CLI)}`,
        STRATA_HOST: options.host ?? `unix://${strata.socket}`,
        NODE_OPTIONS: COUNTING,
        ...options.environment,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (piece: Buffer) => (stdout += piece.toString()))
    child.stderr.on('data', (piece: Buffer) => (stderr += piece.toString()))
    const [code] = (await once(child, 'close')) as [number]
    return { code, stdout, stderr, read: Number(/read ([0-9]+)/.exec(stderr)?.[1]) }
  }
  let big: Buffer
  const loaded = { code: 0, stdout: 'Loaded image: fast/big:1\n' }
  beforeAll(async () => {
    big = await makeArchive({
      names: ['fast/big:1'],
      layers: [await makeLayer(new Map([['big', { content: randomBytes(40_000_000) }]]))],
    })
  })

  it('sends no bytes of FILE, -i FILE and < FILE', async () => {
    const path = fileWith(big)
    for (const line of [`$STRATA load ${path}`, `$STRATA load -q -i ${path}`, `$STRATA load < ${path}`]) {
      const result = await shell(line)
      expect(result, line).toMatchObject(loaded)
      expect(result.read, line).toBeLessThan(30_000_000)
      await strata.request('DELETE', '/v1/images/fast%2Fbig:1')
    }
  })

  it('of a user without rights, through a symbolic link', async () => {
    const link = join(folder, 'link')
    symlinkSync(fileWith(big, 0o400, 65534), link)
    expect(await shell(`$STRATA load -q ${link}`, { under: NOBODY })).toMatchObject(loaded)
  })

  it('sends the bytes where it must: a pipe, a part of a file, TCP, a refused descriptor', async () => {
    const path = fileWith(big)
    const padded = fileWith(Buffer.concat([Buffer.alloc(512, 'x'), big]))
    const token = readFileSync(strata.tokenFile, 'utf8').trim()
    const ways: Parameters<typeof shell>[] = [
      [`cat ${path} | $STRATA load -q`],
      [`{ dd bs=512 count=1 of=/dev/null status=none; $STRATA load -q; } < ${padded}`],
      [`$STRATA load -q ${path}`, { host: `http://${listen}`, environment: { STRATA_TOKEN: token } }],
      [`$STRATA load -q ${path}`, { under: ['unshare', '-Ur'] }],
      [`mkfifo ${path}.fifo; cat ${path} > ${path}.fifo & $STRATA load -q ${path}.fifo`],
    ]
    for (const [line, options] of ways) {
      const result = await shell(line, options)
      expect(result, line).toMatchObject(loaded)
      expect(result.read, line).toBeGreaterThan(big.length)
      await strata.request('DELETE', '/v1/images/fast%2Fbig:1')
    }
  })

  it('says what is wrong with a file, once', async () => {
    expect(await shell(`$STRATA load -q ${fileWith('no tar'.repeat(1000))}`)).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(/^strata: Error response: this is not a tar[^\n]*\nread/) as string,
    })
    expect(await shell(`$STRATA load -q < ${fileWith('')}`)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('empty') as string,
    })
  })

  /** An archive that takes seconds: holes, so that it takes no room. */
  function longArchive(): string {
    const path = fileWith(header({ name: 'long', size: 8_000_000_000 }))
    truncateSync(path, 8_000_001_024)
    return path
  }

  it('is cancelled in the middle', async () => {
    const before = await settledStore(strata)
    const path = longArchive()
    const id = randomUUID()
    const answer = name({ path, query: `?job=${id}` })
    await until(async () => (await job(id)).bytes > 0, 'bytes have come')
    await strata.request('DELETE', `/v1/jobs/${id}`)
    expect(await answer).toMatchObject({ status: 409, code: 'cancelled' })
    expect(await settledStore(strata)).toEqual(before)
    rmSync(path)
  })

  it('is killed in the middle', async () => {
    const before = await settledStore(strata)
    const path = longArchive()
    const known = new Set((await jobs()).map(({ id }) => id))
    const child = strata.spawnCli(['load', '-q', path])
    let mine: JobView | undefined
    await until(
      async () => (mine = (await jobs()).find(({ id, bytes }) => !known.has(id) && bytes > 0)) !== undefined,
      'bytes have come',
    )
    child.kill('SIGKILL')
    await until(async () => (await job(mine!.id)).state === 'failed', 'the job has failed')
    expect(await job(mine!.id)).toMatchObject({ error: { code: 'upload_interrupted' } })
    expect(await settledStore(strata)).toEqual(before)
    rmSync(path)
  })

  it('leaves no descriptor behind', async () => {
    const open = () =>
      execFileSync('ls', ['-l', join('/proc', String(strata.pid('gateway')), 'fd')])
        .toString()
        .split('\n')
        .filter((line) => line.includes(folder)).length
    await until(() => open() === 0, 'all files are closed')
  })

  const jobs = async (): Promise<JobView[]> =>
    (await strata.request('GET', '/v1/jobs')).json<{ jobs: JobView[] }>().jobs
})
