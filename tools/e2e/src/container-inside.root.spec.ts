import { readFileSync } from 'node:fs'
import { readFile, readlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { mountAt } from '@strata/linux'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { layerOf, loadBusybox } from './testing/busybox-image.js'
import { StrataUnderTest, type Output } from './testing/strata.js'

/**
 * A container as its process sees it. All of it is made by the runtime of the container's node,
 * wherever that runs. What goes through other services is in run.root.spec.ts.
 */
let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start()
  const over = await layerOf({
    'etc/passwd': { content: 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:web:/home/web:/bin/sh\n' },
    'etc/group': { content: 'root:x:0:\nweb:x:1001:\nstaff:x:50:web\n' },
    script: { content: '#!/bin/sh\necho "entry $*"\n', mode: 0o755 },
  })
  await loadBusybox(strata, 't/box', [over], {
    Env: ['PATH=/bin', 'FROM=image'],
    Cmd: ['echo', 'by default'],
    Volumes: { '/data/deep': {} },
    WorkingDir: '/tmp',
  })
  await loadBusybox(strata, 't/entry', [over], { Entrypoint: ['/script'], Cmd: ['of the image'] })
})
afterAll(async () => {
  await strata.dispose()
})

const run = (...args: string[]): Promise<Output> => strata.cli(['run', '--rm', ...args])
const sh = async (script: string, ...options: string[]): Promise<string> => {
  const { code, stdout, stderr } = await run(...options, 't/box', 'sh', '-c', script)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  return stdout.toString()
}

describe('what the container is given', () => {
  it('the image’s command, entrypoint, and what replaces them', async () => {
    const outputs = await Promise.all([
      run('t/box'),
      run('t/entry'),
      run('t/entry', 'a', 'b'),
      run('--entrypoint', '/bin/echo', 't/entry', 'mine'),
      run('--entrypoint', '/bin/pwd', 't/entry'),
    ])
    expect(outputs.map(({ stdout }) => stdout.toString())).toEqual([
      'by default\n',
      'entry of the image\n',
      'entry a b\n',
      'mine\n',
      '/\n',
    ])
  })

  it('environment of the image, of a file, of the command line, in this order', async () => {
    const file = join(strata.folder, 'env')
    await writeFile(file, '# a comment\nFILE=file\nBOTH=file\n')
    expect(
      await sh('echo $FROM $FILE $BOTH "$SPACED" $HOME', '--env-file', file, '-e', 'BOTH=line', '-e', 'SPACED=a  b'),
    ).toBe('image file line a  b /root\n')
  })

  it('working directory, made where it is missing; user by name and number, with their groups', async () => {
    expect(await sh('pwd')).toBe('/tmp\n')
    expect(await sh('pwd', '-w', '/made/for/it')).toBe('/made/for/it\n')
    expect(await sh('id -u; id -g; id -G; echo $HOME', '-u', 'web')).toBe('1000\n1001\n1001 50\n/home/web\n')
    expect(await sh('id -u; id -g', '-u', '77:88')).toBe('77\n88\n')
  })

  it('its own name, and the files of the network', async () => {
    expect(await sh('hostname; cat /etc/hostname; head -1 /etc/hosts', '--hostname', 'inside')).toBe(
      'inside\ninside\n127.0.0.1\tlocalhost\n',
    )
    const id = await strata.cli(['run', '-d', 't/box', 'hostname'])
    const container = id.stdout.toString().trim()
    await strata.cli(['wait', container])
    expect((await strata.cli(['logs', container])).stdout.toString()).toBe(`${container.slice(0, 12)}\n`)
    await strata.cli(['rm', container])
    const nameserver = /^nameserver .*/m.exec(readFileSync('/etc/resolv.conf', 'utf8'))?.[0] ?? ''
    expect(await sh('cat /etc/resolv.conf', '--network', 'host')).toContain(nameserver)
  })

  it('no network but lo, which is up; or the machine’s', async () => {
    expect(
      await sh('ls /sys/class/net; ip -o -4 addr show lo | grep -c 127.0.0.1/8; cat /proc/net/dev | grep -vc lo:'),
    ).toBe('lo\n1\n2\n')
    expect(
      (await sh('ip -o link | cut -d: -f2', '--network', 'host'))
        .split('\n')
        .filter(Boolean)
        .map((name) => name.trim().split('@')[0]),
    ).toEqual(
      readFileSync('/proc/net/dev', 'utf8')
        .split('\n')
        .slice(2)
        .filter(Boolean)
        .map((line) => line.split(':')[0]?.trim())
        .sort(byKernelIndex),
    )
  })

  it('folders for its volumes, in its own writable layer', async () => {
    expect(await sh('touch /data/deep/x && ls /data/deep')).toBe('x\n')
    expect(await sh('ls /data/deep')).toBe('')
  })
})

describe('what holds the container', () => {
  it('the field’s default capabilities, the seccomp filter, masked and read-only paths', async () => {
    const status = await sh('grep -E "^(CapEff|CapBnd|Seccomp):" /proc/self/status')
    // moby's 14.
    expect(status).toMatch(/CapEff:\s+00000000a80425fb\n/)
    expect(status).toMatch(/CapBnd:\s+00000000a80425fb\n/)
    expect(status).toMatch(/Seccomp:\s+2\n/)
    expect(await sh('grep ^CapEff: /proc/self/status', '-u', 'web')).toMatch(/CapEff:\s+0{16}\n/)
    expect(
      await sh(
        'cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l; echo 1 2>/dev/null > /proc/sys/kernel/hostname || echo refused',
      ),
    ).toBe('0\n0\nrefused\n')
    expect((await run('t/box', 'mount', '-t', 'tmpfs', 'none', '/tmp')).code).not.toBe(0)
    expect((await run('t/box', 'unshare', '-m', 'true')).code).not.toBe(0)
  })

  it('namespaces and a cgroup of its own', async () => {
    const inside = (await sh('for n in mnt uts pid ipc cgroup net; do readlink /proc/self/ns/$n; done'))
      .trim()
      .split('\n')
    const ours = await Promise.all(
      ['mnt', 'uts', 'pid', 'ipc', 'cgroup', 'net'].map((name) => readlink(`/proc/self/ns/${name}`)),
    )
    expect(inside).toHaveLength(6)
    for (const [index, name] of inside.entries()) expect(name).not.toBe(ours[index])
    expect(await sh('echo $$')).toBe('1\n')

    const id = (await strata.cli(['run', '-d', 't/box', 'sleep', '1000'])).stdout.toString().trim()
    const { pid } = (await strata.request('GET', `/v1/containers/${id}`)).json<{ pid: number }>()
    expect(await readFile(`/proc/${pid}/cgroup`, 'utf8')).toContain(`/strata-${strata.node.id}/${id}`)
    await strata.cli(['rm', '-f', id])
  })
})

it('what a container that stays has written gets to the disk at its end; one that goes has no such wait', async () => {
  const options = async (...args: string[]): Promise<string | undefined> => {
    const id = (await strata.cli(['run', '-d', ...args, 't/box', 'sleep', '1000'])).stdout.toString().trim()
    const options = mountAt(join(strata.node.folder, 'roots', id))?.superOptions.join()
    await strata.cli(['rm', '-f', id])
    return options
  }
  expect(await options()).not.toContain('volatile')
  expect(await options('--rm')).toContain('volatile')
})

const order = (name: string): number => Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8'))
function byKernelIndex(a: string | undefined, b: string | undefined): number {
  return order(a ?? '') - order(b ?? '')
}
