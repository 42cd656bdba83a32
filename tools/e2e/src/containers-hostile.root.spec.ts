import { readdirSync, readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { concat, header, ZEROS, type TreeEntry } from '@strata/archive/testing'
import { guarded } from './testing/guard.js'
import { layerOf, loadBusybox } from './testing/busybox-image.js'
import { leftOnNode, StrataUnderTest, type Output } from './testing/strata.js'

const SECRET = 'evil:x:4242:4242:evil:/root:/bin/sh\n'

let strata: StrataUnderTest
/** A folder of the host with a file: nothing in it may be read, changed or added to. */
let canary: string
beforeAll(async () => {
  strata = await StrataUnderTest.start()
  canary = join(strata.folder, 'canary')
  await mkdir(canary)
  await writeFile(join(canary, 'file'), SECRET)
})
afterAll(async () => {
  await strata.dispose()
})
guarded(() => strata)
afterEach(async () => {
  expect(readdirSync(canary)).toEqual(['file'])
  expect(readFileSync(join(canary, 'file'), 'utf8')).toBe(SECRET)
  await expect.poll(() => leftOnNode(strata.node)).toEqual([])
})

let count = 0
async function image(layer: Buffer, config: Record<string, unknown> = {}): Promise<string> {
  const name = `t/hostile:${count++}`
  await loadBusybox(strata, name, [layer], config)
  return name
}
const run = (name: string, script: string, ...options: string[]): Promise<Output> =>
  strata.cli(['run', '--rm', ...options, name, '/bin/sh', '-c', script])
/** `/` and `..` up to the host's root, and beyond. */
const outOf = (path: string): string => `/${'../'.repeat(30)}${path.slice(1)}`
function expectRefused(output: Output, words: string): void {
  expect(output).toMatchObject({ code: 125, stdout: Buffer.alloc(0) })
  expect(output.stderr).toContain(words)
  expect(output.stderr.trimEnd().split('\n')).toHaveLength(1)
}

it.each([
  ['absolute', (path: string) => path],
  ['relative', (path: string) => outOf(path).slice(1)],
])('users are not looked up in a file of the host, by a link that is %s', async (_, link) => {
  const name = await image(
    await layerOf({
      'etc/passwd': { symlink: link(join(canary, 'file')) },
      'etc/group': { symlink: link(join(canary, 'file')) },
    }),
  )
  expectRefused(await run(name, 'id', '-u', 'evil'), 'evil')
  expect((await run(name, 'cat /etc/passwd; id -u', '-u', '7')).stdout.toString()).toBe('7\n')
})

it('a user file that would block for ever is refused', async () => {
  const name = await image(concat(header({ name: 'etc/passwd', type: '6' }), ZEROS))
  expectRefused(await run(name, 'id'), '/etc/passwd')
})

it.each(['4294967296', '-1', '0:4294967296', '1e3', '99999999999999999999'])('USER %s is refused', async (user) => {
  expectRefused(await run(await image(await layerOf({}), { User: user }), 'id'), user.split(':').at(-1) ?? '')
})

it('a working directory through a link is made inside', async () => {
  const name = await image(await layerOf({ way: { symlink: outOf(canary) } }), { WorkingDir: '/way/made' })
  expect((await run(name, 'pwd; touch here; ls')).stdout.toString()).toBe(`${canary}/made\nhere\n`)
})

it.each(['/proc/self/fd/7', '/proc/self/fd/../cwd', '/way'])(
  'a working directory in /proc is refused: %s',
  async (WorkingDir) => {
    const name = await image(await layerOf({ way: { symlink: 'proc/self/cwd' } }), { WorkingDir })
    expectRefused(await run(name, 'pwd'), '/proc')
  },
)

it('a volume with links and dots is made inside', async () => {
  const name = await image(await layerOf({ way: { symlink: canary } }), {
    Volumes: { '/way/volume': {}, [outOf(join(canary, 'dots'))]: {} },
  })
  expect((await run(name, `ls ${canary}`)).stdout.toString()).toBe('dots\nvolume\n')
})

it.each(['dev', 'proc', 'sys'])('an image whose /%s is a link, or a file, is not run', async (folder) => {
  const hide: Record<string, TreeEntry> = { [`.wh.${folder}`]: { content: '' } }
  expectRefused(
    await run(await image(await layerOf({ ...hide, [folder]: { symlink: canary } })), 'true'),
    `/${folder} is a symbolic link`,
  )
  expectRefused(
    await run(await image(await layerOf({ ...hide, [folder]: { content: 'x' } })), 'true'),
    `/${folder} is a file`,
  )
})

it.each(['hosts', 'hostname', 'resolv.conf'])('/etc/%s as a link to the host is followed inside only', async (file) => {
  const name = await image(await layerOf({ [`etc/${file}`]: { symlink: join(canary, 'file') } }))
  const { code, stdout } = await run(name, `cat /etc/${file}; echo more >> /etc/${file}`, '--hostname', 'ours')
  expect(code).toBe(0)
  expect(stdout.toString()).not.toContain('evil')
  if (file === 'hostname') expect(stdout.toString()).toBe('ours\n')
})

it('/etc as a link to a folder of the host', async () => {
  const name = await image(await layerOf({ '.wh.etc': { content: '' }, etc: { symlink: outOf(canary) } }))
  expect(await run(name, 'cat /etc/hostname; touch /etc/x; ls /etc', '--hostname', 'ours')).toEqual({
    code: 0,
    stdout: Buffer.from('ours\nhostname\nhosts\nmtab\nresolv.conf\nx\n'),
    stderr: '',
  })
})

it('/etc/hosts as a link into /proc is refused', async () => {
  expectRefused(await run(await image(await layerOf({ 'etc/hosts': { symlink: '/proc/1/environ' } })), 'true'), '/proc')
})

it('what cannot be a name of an environment or a host does not break out of the runtime’s spec', async () => {
  const name = await image(await layerOf({}), {
    Env: ['PATH=/bin', 'QUOTE="},{"x":"', 'NEWLINE=a\nb', '=x'],
    Labels: { 'x"': '\u0000' },
  })
  const { code, stdout } = await run(name, 'echo "$QUOTE"; echo "$NEWLINE"')
  expect({ code, stdout: stdout.toString() }).toEqual({ code: 0, stdout: '"},{"x":"\na\nb\n' })
})
