import { mkdir, readdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { mkfifo, mknod } from '@strata/linux'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { ContainerRequest } from '../container.js'
import { World } from '../testing/world.js'

const S_IFCHR = 0o020000
const NOT_UTF8 = Buffer.from('/a\xff\xfe', 'latin1')

let world: World
let canary: string
beforeAll(async () => {
  world = await World.make()
})
afterAll(async () => {
  expect(await world.end()).toEqual([])
})

/** A folder outside every root, which an image points at in all ways it can. */
beforeEach(async () => {
  canary = join(world.folder, 'canary')
  await mkdir(canary, { recursive: true })
  await writeFile(join(canary, 'passwd'), 'root:x:0:0::/stolen:/bin/sh\nspy:x:0:0::/stolen:/bin/sh\n')
})
afterEach(async () => {
  expect(await readdir(canary)).toEqual(['passwd'])
  expect(await readFile(join(canary, 'passwd'), 'utf8')).toContain('spy')
  await rm(canary, { recursive: true })
})

async function refused(request: ContainerRequest = {}): Promise<string> {
  const id = await world.claim(['true'], request)
  const error: unknown = await world.containers.launch(id).catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ code: 'launch_failed' })
  expect(await world.containers.wait(id)).toMatchObject({ code: 125 })
  await world.containers.remove(id)
  expect(world.leaks()).toEqual([])
  return (error as Error).message
}

describe('/dev, /proc and /sys of an image', () => {
  it.each(['dev', 'proc', 'sys'])('a link for /%s is refused', async (name) => {
    await world.useRoot((root) => symlink(canary, join(root, name)))
    expect(await refused()).toBe(
      `the container's /${name} is a symbolic link, not a folder: such a container is not started`,
    )
  })

  it('a file for /dev is refused', async () => {
    await world.useRoot((root) => writeFile(join(root, 'dev'), ''))
    expect(await refused()).toContain('is a file, not a folder')
  })

  it('links below them are covered by what is mounted', async () => {
    await world.useRoot(async (root) => {
      await mkdir(join(root, 'dev/pts'), { recursive: true })
      await symlink(canary, join(root, 'dev/shm'))
      await symlink(join(canary, 'passwd'), join(root, 'dev/null'))
      await symlink(canary, join(root, 'dev/console'))
    })
    expect(await world.run(['sh', '-c', 'touch /dev/shm/x && echo x > /dev/null && echo fine'])).toMatchObject({
      code: 0,
      stdout: 'fine\n',
    })
  })
})

describe('users', () => {
  it('a passwd that is a link out is looked for inside', async () => {
    await world.useRoot(async (root) => {
      await rm(join(root, 'etc/passwd'))
      await symlink(join(canary, 'passwd'), join(root, 'etc/passwd'))
    })
    expect(await refused({ user: 'spy' })).toContain('no user "spy"')
    await world.useRoot(async (root) => {
      await rm(join(root, 'etc/passwd'))
      await symlink(`${'../'.repeat(20)}proc/self/fd/0`, join(root, 'etc/passwd'))
    })
    expect(await refused({ user: 'spy' })).toContain('no user "spy"')
  })

  it('an /etc that is a link to / or out stays inside', async () => {
    await world.useRoot(async (root) => {
      await rename(join(root, 'etc'), join(root, 'real'))
      await symlink('/', join(root, 'etc'))
      await writeFile(join(root, 'passwd'), 'inside:x:7:7::/:/bin/sh\n')
    })
    expect(
      await world.run(['sh', '-c', 'cat /hostname /etc/hostname; id -u'], { user: 'inside', hostname: 'h' }),
    ).toEqual({ code: 0, stdout: 'h\nh\n7\n', stderr: '' })
    await world.useRoot(async (root) => {
      await rm(join(root, 'etc'), { recursive: true })
      await symlink(`../../../../../../..${canary}`, join(root, 'etc'))
    })
    expect(await world.run(['sh', '-c', 'readlink /etc/hostname; cat /etc/hostname'], { hostname: 'h' })).toMatchObject(
      { code: 0, stdout: 'h\n' },
    )
  })

  it('a passwd that would block, or is no file, or too large is refused', async () => {
    for (const make of [
      (path: string) => Promise.resolve(mkfifo(path, 0o644)),
      (path: string) => Promise.resolve(mknod(path, S_IFCHR | 0o644, 1, 5)),
      (path: string) => mkdir(path),
      async (path: string) => {
        await writeFile(path, '')
        await truncate(path, 2 ** 40)
      },
    ]) {
      await world.useRoot(async (root) => {
        await rm(join(root, 'etc/passwd'))
        await make(join(root, 'etc/passwd'))
      })
      expect(await refused({ user: 'web' })).toMatch(/not a regular file|more than 1048576 bytes/)
    }
  })

  it.each(['4294967296', '2147483648:0', '0:4294967296'])('%s is refused', async (user) => {
    await world.useRoot((root) => writeFile(join(root, 'etc/passwd'), `${user.split(':')[0] ?? ''}:x:0:0::/:/bin/sh\n`))
    expect(await refused({ user })).toContain('above 2147483647')
  })

  it('a passwd line whose name is digits is nobody', async () => {
    await world.useRoot((root) => writeFile(join(root, 'etc/passwd'), '1000:x:0:0::/:/bin/sh\n'))
    expect((await world.run(['id', '-u'], { user: '1000' })).stdout).toBe('1000\n')
  })
})

describe('the working directory', () => {
  it('is made inside, through links that lead out', async () => {
    await world.useRoot(async (root) => {
      await symlink(`${'../'.repeat(30)}..`, join(root, 'up'))
      await symlink(canary, join(root, 'out'))
      await symlink('loop', join(root, 'loop'))
    })
    expect((await world.run(['pwd'], { workdir: '/up/made' })).stdout).toBe('/made\n')
    expect((await world.run(['pwd'], { workdir: `/out/made` })).stdout).toBe(`${canary}/made\n`)
    expect((await world.run(['pwd'], { workdir: '/a/../../../b' })).stdout).toBe('/b\n')
    expect(await refused({ workdir: '/loop/x' })).toContain('too many links')
    expect(await refused({ workdir: '/bin/busybox/x' })).toContain('not a folder')
  })

  it.each(['/proc/self/fd/7', '/proc', '/link', '/tmp/../proc/self'])('%s, in /proc, is refused', async (workdir) => {
    await world.useRoot((root) => symlink('/proc/self/fd/8', join(root, 'link')))
    expect(await refused({ workdir })).toContain('lies in /proc')
  })

  it('behind a link whose target is not UTF-8 is refused by name', async () => {
    await world.useRoot((root) => symlink(NOT_UTF8, join(root, 'w')))
    expect(await refused({ workdir: '/w' })).toBe("the container's /w is a link to a name that is not UTF-8")
  })

  it('may be in /dev', async () => {
    expect(await world.run(['pwd'], { workdir: '/dev' })).toMatchObject({ code: 0, stdout: '/dev\n' })
  })
})

describe('mount targets', () => {
  it('are made inside, through dangling links', async () => {
    const root = await world.useRoot(async (root) => {
      await symlink('../run/systemd/resolve/stub-resolv.conf', join(root, 'etc/resolv.conf'))
      await symlink(join(canary, 'hosts'), join(root, 'etc/hosts'))
    })
    expect(await world.run(['sh', '-c', `grep -c localhost /etc/hosts; ls ${canary}`])).toMatchObject({
      code: 0,
      stdout: '2\nhosts\n',
    })
    expect(await readdir(join(root, 'etc'))).not.toContain('hostname')
  })

  it('in /proc, where links may mean the runtime itself, are refused', async () => {
    await world.useRoot((root) => symlink('/proc/self/environ', join(root, 'etc/hosts')))
    expect(await refused()).toBe('/etc/hosts lies in /proc')
  })

  it.each([
    ['/dev/null', '/dev'],
    ['/dev/hosts', '/dev'],
    ['/sys/hosts', '/sys'],
  ])('at %s, where the kernel’s own is mounted, are refused', async (target, folder) => {
    await world.useRoot((root) => symlink(target, join(root, 'etc/hosts')))
    expect(await refused()).toBe(`/etc/hosts lies in ${folder}`)
  })

  it('behind a link whose target is not UTF-8 are refused by name', async () => {
    await world.useRoot((root) => symlink(NOT_UTF8, join(root, 'etc/hosts')))
    expect(await refused()).toBe("the container's /etc/hosts is a link to a name that is not UTF-8")
  })

  it('that are something else are refused', async () => {
    await world.useRoot((root) => mkdir(join(root, 'etc/hosts')))
    expect(await refused()).toBe("the container's /etc/hosts is a folder, which /etc/hosts cannot be")
  })
})
