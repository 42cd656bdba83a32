import { spawn, spawnSync } from 'node:child_process'
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
  lstatSync,
  readdirSync,
  constants,
} from 'node:fs'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  attachLoop,
  cloneFile,
  dataRanges,
  flock,
  FolderWatch,
  lgetxattr,
  llistxattr,
  lsetxattr,
  lutimes,
  makePrivateMount,
  mkfifo,
  mknod,
  mount,
  mountAt,
  mountFs,
  MS_BIND,
  openat2,
  pidStartTime,
  posixSpawn,
  raiseLoopback,
  RESOLVE_IN_ROOT,
  RESOLVE_NO_SYMLINKS,
  syncfs,
  SystemError,
  umount,
  waitpid,
} from './index.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'strata-linux-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))
const code = (action: () => unknown): string => {
  try {
    action()
  } catch (error) {
    if (error instanceof SystemError) return error.code
    throw error
  }
  return 'none'
}

describe('FolderWatch', () => {
  let watches: FolderWatch
  beforeEach(() => {
    watches = new FolderWatch()
  })
  afterEach(() => watches.close())
  const told = () =>
    watches
      .read()
      .map((event) => ('name' in event ? `${event.kind} ${event.name}${event.isFolder ? '/' : ''}` : event.kind))

  it('has the event of a change when the call returns, whichever call it is', () => {
    const at = (name: string) => join(folder, name)
    mkdirSync(at('watched'))
    const watch = watches.add(at('watched'))
    const changes: [() => unknown, string[]][] = [
      [() => writeFileSync(at('watched/a'), ''), ['added a']],
      [() => writeFileSync(at('watched/a'), 'more'), []],
      [() => linkSync(at('watched/a'), at('watched/b')), ['added b']],
      [() => symlinkSync('/nowhere', at('watched/s')), ['added s']],
      [() => mkdirSync(at('watched/d')), ['added d/']],
      [() => writeFileSync(at('watched/d/x'), ''), []],
      [() => renameSync(at('watched/a'), at('watched/b')), []], // Two names of one file: rename(2) does nothing.
      [() => renameSync(at('watched/a'), at('watched/c')), ['gone a', 'added c']],
      [() => renameSync(at('watched/c'), at('out')), ['gone c']],
      [() => renameSync(at('out'), at('watched/in')), ['added in']],
      [() => unlinkSync(at('watched/in')), ['gone in']],
      [() => rmSync(at('watched/d'), { recursive: true }), ['gone d/']],
      [() => rmSync(at('watched/s')), ['gone s']],
      [() => writeFileSync(at(`watched/${'n'.repeat(255)}`), ''), [`added ${'n'.repeat(255)}`]],
      [() => renameSync(at('watched'), at('elsewhere')), []],
      [() => writeFileSync(at('elsewhere/a'), ''), ['added a']],
    ]
    for (const [change, events] of changes) {
      change()
      expect(told()).toEqual(events)
    }
    symlinkSync(at('elsewhere'), at('link'))
    expect(watches.add(at('link'))).toBe(watch)
    watches.release(watch)
    expect(watches.read()).toEqual([{ kind: 'ended', watch }])
    unlinkSync(at('elsewhere/a'))
    expect(watches.read()).toEqual([])
    watches.release(watch)
  })

  it('tells of a folder that was deleted, of many folders, and of more than fits at once', () => {
    const folders = ['one', 'two'].map((name) => join(folder, name))
    for (const each of folders) mkdirSync(each)
    const numbers = folders.map((each) => watches.add(each))
    expect(new Set(numbers).size).toBe(2)
    for (let n = 0; n < 3000; n++) writeFileSync(join(folders[n % 2]!, `name-${n}`), '')
    const events = watches.read()
    expect(events.map((event) => 'name' in event && [event.watch, event.name])).toEqual(
      Array.from({ length: 3000 }, (_, n) => [numbers[n % 2], `name-${n}`]),
    )
    rmSync(folders[0]!, { recursive: true })
    expect(watches.read().at(-1)).toEqual({ kind: 'ended', watch: numbers[0] })
    writeFileSync(join(folders[1]!, 'last'), '')
    expect(told()).toEqual(['added last'])
  })

  it('says that events are lost when the queue is full', () => {
    writeFileSync(join(folder, 'n0'), '')
    watches.add(folder)
    const most = Number(readFileSync('/proc/sys/fs/inotify/max_queued_events', 'utf8'))
    for (let n = 0; n <= most / 2; n++) renameSync(join(folder, `n${n % 2}`), join(folder, `n${(n + 1) % 2}`))
    expect(told().at(-1)).toBe('lost')
    mkdirSync(join(folder, 'x'))
    expect(told()).toEqual(['added x/'])
  })

  it('watches folders only', () => {
    writeFileSync(join(folder, 'file'), '')
    expect(code(() => watches.add(join(folder, 'file')))).toBe('ENOTDIR')
    expect(code(() => watches.add(join(folder, 'absent')))).toBe('ENOENT')
  })
})

describe('mounts', () => {
  it('shows a bind mount in the table until it is unmounted, and names the errno after that', () => {
    mount(folder, folder, '', MS_BIND)
    expect(mountAt(folder)).toBeDefined()
    umount(folder)
    expect(mountAt(folder)).toBeUndefined()
    expect(code(() => umount(folder))).toBe('EINVAL')
  })

  it('makes a folder a private mount once', () => {
    const path = makePrivateMount(join(folder, 'node'))
    expect(makePrivateMount(path)).toBe(path)
    expect(mountAt(path)?.propagation).toEqual([])
    expect(statSync(path).mode & 0o777).toBe(0o700)
    umount(path)
    expect(mountAt(path)).toBeUndefined()
  })

  it('mounts by fsconfig, takes paths longer than a value may be, and passes the kernel’s words on', () => {
    const lower = join(folder, ...Array.from({ length: 3 }, () => 'l'.repeat(120)))
    const target = join(folder, 'target')
    for (const path of [lower, target, join(folder, 'below')]) mkdirSync(path, { recursive: true })
    writeFileSync(join(lower, 'file'), 'x')
    mountFs({
      fstype: 'overlay',
      source: 'overlay',
      options: [
        ['lowerdir+', { path: lower }],
        ['lowerdir+', { path: join(folder, 'below') }],
      ],
      target,
      readOnly: true,
      nosuid: true,
      nodev: true,
    })
    expect(readFileSync(join(target, 'file'), 'utf8')).toBe('x')
    expect(mountAt(target)?.options).toEqual(expect.arrayContaining(['ro', 'nosuid', 'nodev']))
    umount(target)
    expect(() => mountFs({ fstype: 'overlay', options: [['nonsense', '1']], target })).toThrow(
      /overlay: nonsense: .*nonsense/,
    )
    expect(mountAt(target)).toBeUndefined()
  })
})

describe('paths', () => {
  it('keeps a walk inside the root', () => {
    mkdirSync(join(folder, 'root/etc'), { recursive: true })
    writeFileSync(join(folder, 'canary'), 'outside')
    writeFileSync(join(folder, 'root/canary'), 'inside')
    symlinkSync('../../../../canary', join(folder, 'root/etc/link'))
    const root = openSync(join(folder, 'root'), 'r')
    const fd = openat2(root, 'etc/link', constants.O_RDONLY, RESOLVE_IN_ROOT)
    expect(readFileSync(fd, 'utf8')).toBe('inside')
    expect(
      code(() => openat2(join(folder, 'root'), Buffer.from('etc/link'), constants.O_RDONLY, RESOLVE_NO_SYMLINKS)),
    ).toBe('ELOOP')
    closeSync(fd)
    closeSync(root)
  })

  it('walks back also while others rename anywhere on the machine, of which the kernel says: try again', async () => {
    mkdirSync(join(folder, 'root/etc'), { recursive: true })
    const renames =
      "const { renameSync } = require('node:fs'); process.stdout.write('now'); for (;;) { renameSync('a', 'b'); renameSync('b', 'a') }"
    mkdirSync(join(folder, 'a'))
    const other = spawn(process.execPath, ['-e', renames], { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] })
    const ended = once(other, 'exit')
    try {
      await once(other.stdout, 'data')
      const codes = Array.from({ length: 20_000 }, () =>
        code(() => closeSync(openat2(join(folder, 'root'), 'etc/../etc/../etc', constants.O_RDONLY, RESOLVE_IN_ROOT))),
      )
      expect(codes.filter((each) => each !== 'none')).toEqual([])
    } finally {
      other.kill('SIGKILL')
      await ended
    }
  })

  it('makes special files under names that are bytes', () => {
    const name = Buffer.concat([Buffer.from(`${folder}/`), Buffer.from([0xff, 0x01])])
    mknod(name, 0o020640, 259, 0x12345)
    expect(readdirSync(folder, { encoding: 'buffer' })).toEqual([Buffer.from([0xff, 0x01])])
    expect(lstatSync(name).rdev).toBe(Number((0x12345n & 0xffn) | (259n << 8n) | ((0x12345n & ~0xffn) << 12n)))
    mkfifo(join(folder, 'fifo'), 0o600)
    expect(lstatSync(join(folder, 'fifo')).isFIFO()).toBe(true)
    expect(code(() => mknod(`${folder}/a\0b`, 0o020640, 1, 1))).toBe('EINVAL')
  })

  it('sets attributes and times of the link, not of what it points at', () => {
    writeFileSync(join(folder, 'file'), 'x')
    symlinkSync('file', join(folder, 'link'))
    lutimes(join(folder, 'link'), -5, 999_999_999)
    expect(lstatSync(join(folder, 'link'), { bigint: true }).mtimeNs).toBe(-4_000_000_001n)
    const before = statSync(join(folder, 'file')).mtimeMs
    expect(before).toBeGreaterThan(0)
    lsetxattr(join(folder, 'link'), 'trusted.a', Buffer.from([0, 1]))
    lsetxattr(join(folder, 'link'), Buffer.from('trusted.b'), Buffer.alloc(0))
    expect(llistxattr(join(folder, 'link')).map(String).sort()).toEqual(['trusted.a', 'trusted.b'])
    expect(lgetxattr(join(folder, 'link'), 'trusted.a')).toEqual(Buffer.from([0, 1]))
    expect(lgetxattr(join(folder, 'file'), 'trusted.a')).toBeUndefined()
  })
})

it('copies a file by its data, without its holes, and shares blocks only where the file system can', () => {
  const [from, to] = [join(folder, 'from'), join(folder, 'to')]
  writeFileSync(from, '')
  const source = openSync(from, 'r+')
  const copy = openSync(to, 'w+')
  try {
    ftruncateSync(source, 100 * 2 ** 20)
    writeSync(source, Buffer.alloc(4096, 1), 0, 4096, 10 * 2 ** 20)
    fsyncSync(source)
    const ranges = [...dataRanges(source)]
    expect(ranges.reduce((sum, { length }) => sum + length, 0)).toBeLessThan(2 ** 20)
    expect(ranges.some(({ offset, length }) => offset <= 10 * 2 ** 20 && offset + length > 10 * 2 ** 20)).toBe(true)
    ftruncateSync(source, 4096)
    expect([...dataRanges(source)]).toEqual([])
    expect(cloneFile(source, copy)).toBe(fstatSync(copy).size === 4096)
    expect(code(() => cloneFile(source, -1))).toBe('EBADF')
  } finally {
    closeSync(source)
    closeSync(copy)
  }
})

it('excludes a second open of a locked file, also in one process', () => {
  const path = join(folder, 'lock')
  const [first, second] = [openSync(path, 'w'), openSync(path, 'w')]
  expect(flock(first, 'ex', { nonblock: true })).toBe(true)
  expect(flock(second, 'sh', { nonblock: true })).toBe(false)
  flock(first, 'un')
  expect(flock(second, 'sh')).toBe(true)
  syncfs(first)
  closeSync(first)
  closeSync(second)
})

it('shows a file as a block device that is free again when closed', () => {
  writeFileSync(join(folder, 'disk'), Buffer.alloc(4096, 7))
  const { device, fd } = attachLoop(join(folder, 'disk'), { readOnly: true, autoclear: true })
  expect(readFileSync(device)).toEqual(Buffer.alloc(4096, 7))
  const backing = `/sys/block/${device.slice('/dev/'.length)}/loop/backing_file`
  expect(readFileSync(backing, 'utf8').trim()).toBe(join(folder, 'disk'))
  closeSync(fd)
})

it('makes the nodes for it in a /dev that has none, as a container has one', () => {
  const linux = new URL('../dist/index.js', import.meta.url).href
  const file = JSON.stringify(join(folder, 'disk'))
  writeFileSync(join(folder, 'disk'), Buffer.alloc(4096, 7))
  const script = `
const { attachLoop } = await import(${JSON.stringify(linux)})
const { device } = attachLoop(${file}, { readOnly: true, autoclear: true })
console.log((await import('node:fs')).readFileSync(device).length)`
  const own = 'mount -t tmpfs tmpfs /dev && mknod /dev/urandom c 1 9 && exec "$@"'
  const node = [process.execPath, '--input-type=module', '--eval', script]
  const { stdout, stderr } = spawnSync('unshare', ['--mount', 'sh', '-c', own, 'sh', ...node], { encoding: 'utf8' })
  expect(stdout, stderr).toBe('4096\n')
})

it('lets processes take devices and give them back at once, in a /dev without nodes', () => {
  const linux = new URL('../dist/index.js', import.meta.url).href
  writeFileSync(join(folder, 'disk'), Buffer.alloc(4096, 7))
  mkdirSync(join(folder, 'ready'))
  const script = `
const { attachLoop } = await import(${JSON.stringify(linux)})
const { closeSync, readdirSync, writeFileSync } = await import('node:fs')
writeFileSync('ready/' + process.pid, '')
while (readdirSync('ready').length < 6);
for (let turn = 0; turn < 30; turn++) closeSync(attachLoop('disk', { readOnly: true, autoclear: true }).fd)
console.log('done')`
  const own =
    'mount -t tmpfs tmpfs /dev && mknod /dev/urandom c 1 9 && mknod /dev/null c 1 3 && for i in 1 2 3 4 5 6; do "$@" & done; wait'
  const node = [process.execPath, '--input-type=module', '--eval', script]
  const { stdout, stderr } = spawnSync('unshare', ['--mount', 'sh', '-c', own, 'sh', ...node], {
    encoding: 'utf8',
    cwd: folder,
  })
  expect(stdout, stderr).toBe('done\n'.repeat(6))
})

describe('processes', () => {
  const output = (): { fd: number; text: () => string } => {
    const path = join(folder, 'out')
    return { fd: openSync(path, 'w'), text: () => readFileSync(path, 'utf8') }
  }

  it('gives the child its program, arguments, environment, folder, session and nothing else', () => {
    const out = output()
    const pid = posixSpawn({
      file: '/bin/sh',
      argv: [
        'sh',
        '-c',
        'echo "$1 $X $(pwd)"; ls /proc/$$/fd; cut -d" " -f6 /proc/$$/stat; grep -E "Sig(Blk|Ign)" /proc/self/status; exit 7',
        'sh',
        'a b',
      ],
      env: { X: 'ü', PATH: '/usr/bin:/bin' },
      cwd: folder,
      stdio: [null, out.fd, out.fd],
      newSession: true,
    })
    expect(waitpid(pid, false)).toEqual({ pid, code: 7 })
    closeSync(out.fd)
    const [first, ...rest] = out.text().split('\n')
    expect(first).toBe(`a b ü ${folder}`)
    // Listed without a pipe: the shell itself would have its end open for a while.
    expect(rest.slice(0, 4)).toEqual(['0', '1', '2', String(pid)])
    // grep's own, which it has from the shell: the shell itself blocks all while it starts one.
    expect(rest.join('\n')).toMatch(/SigBlk:\s0+\n/)
    // glibc itself ignores its two internal signals, 32 and 33, in every child.
    expect(rest.join('\n')).toMatch(/SigIgn:\s0+(180000000)?\n/)
    expect(waitpid(pid, true)).toBeUndefined()
  })

  it('places descriptors without clobbering those still needed', () => {
    const [a, b] = [join(folder, 'a'), join(folder, 'b')]
    writeFileSync(a, 'A')
    writeFileSync(b, 'B')
    const [low, high] = [openSync(a, 'r'), openSync(b, 'r')].sort((x, y) => x - y)
    const out = output()
    const last = Math.max(low!, high!)
    // Crossed: each of the two is to sit at the number of the other.
    const stdio = Array.from({ length: last + 1 }, (_, place) =>
      place === low ? high! : place === high ? low! : place === 1 ? out.fd : null,
    )
    const pid = posixSpawn({
      file: '/bin/sh',
      argv: ['sh', '-c', `cat /proc/self/fd/${low!} /proc/self/fd/${high!}`],
      env: { PATH: '/usr/bin:/bin' },
      stdio,
    })
    expect(waitpid(pid, false)).toEqual({ pid, code: 0 })
    expect(out.text()).toBe('BA')
    for (const fd of [low!, high!, out.fd]) closeSync(fd)
  })

  it('names the reason when there is no such program, and the signal that ended one', () => {
    expect(code(() => posixSpawn({ file: '/no/such', argv: ['x'], env: {}, stdio: [null, null, null] }))).toBe('ENOENT')
    const pid = posixSpawn({ file: '/bin/sleep', argv: ['sleep', '1000'], env: {}, stdio: [null, null, null] })
    expect(waitpid(pid, true)).toBeUndefined()
    expect(pidStartTime(pid)).toBeGreaterThan(0)
    process.kill(pid, 'SIGKILL')
    expect(waitpid(pid, false)).toEqual({ pid, signal: 'SIGKILL' })
    expect(pidStartTime(pid)).toBeUndefined()
  })

  it('raises lo in another network namespace and comes back', async () => {
    const child = spawn('unshare', ['-n', 'sh', '-c', 'echo ready; read x; cat /proc/net/if_inet6'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const texts: string[] = []
    child.stdout.on('data', (chunk: Buffer) => texts.push(chunk.toString()))
    await once(child.stdout, 'data')
    const ours = statSync('/proc/thread-self/ns/net').ino
    raiseLoopback(child.pid!)
    expect(statSync('/proc/thread-self/ns/net').ino).toBe(ours)
    child.stdin.end('go\n')
    await once(child, 'close')
    // An interface that is up has its ::1 address; `lo` down has none.
    expect(texts.join('')).toMatch(/00000000000000000000000000000001/)
  })
})
