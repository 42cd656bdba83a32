import { chmod, chown, lstat, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { execFileSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Logins } from './logins.js'
import { hostOf, keyOf, serverHost } from './server.js'

let folder: string
let environment: NodeJS.ProcessEnv
let file: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'strata-logins-'))
  file = join(folder, 'config.json')
  environment = { DOCKER_CONFIG: folder, PATH: process.env['PATH'] }
})
afterEach(() => rm(folder, { recursive: true }))

const base64 = (text: string): string => Buffer.from(text).toString('base64')
const write = (config: unknown): Promise<void> =>
  writeFile(file, typeof config === 'string' ? config : JSON.stringify(config))
const read = async (): Promise<unknown> => JSON.parse(await readFile(file, 'utf8'))
const find = (host: string) => new Logins(environment).find(host)
const HUB = 'https://index.docker.io/v1/'

describe('the servers of logins', () => {
  it.each([
    ['registry.example.com', 'registry.example.com', 'registry.example.com'],
    ['https://registry.example.com:5000/v2/', 'registry.example.com:5000', 'registry.example.com:5000'],
    ['http://localhost:5000', 'localhost:5000', 'localhost:5000'],
    ['quay.io/org', 'quay.io', 'quay.io'],
    ['docker.io', 'docker.io', HUB],
    ['index.docker.io', 'docker.io', HUB],
    ['registry-1.docker.io', 'docker.io', HUB],
    [HUB, 'docker.io', HUB],
    // Not the host before the @.
    ['https://good.example@evil.example/v1/', 'evil.example', 'evil.example'],
  ])('%s is %s, kept as %s', (written, host, key) => {
    expect(hostOf(written)).toBe(host)
    expect(keyOf(hostOf(written))).toBe(key)
    expect(serverHost(written)).toBe(host)
  })

  it('without one is Docker Hub', () => expect(keyOf(serverHost())).toBe(HUB))

  it.each(['', 'a b', 'a\x1b[2J', '-x', 'a:b', 'https://', 'a:1:2', '__proto__', 'ä'])('refuses %j', (text) => {
    expect(() => serverHost(text)).toThrow('is not a registry')
  })
})

describe('a login that docker has written', () => {
  it('is read by its host, with or without a scheme and a path', async () => {
    await write({
      auths: {
        [HUB]: { auth: base64('hub:secret:with:colons') },
        'plain.example': { auth: base64('a:b\0\0'), email: 'a@example.com' },
        'https://old.example:5000/v1/': { auth: base64('old:pw') },
        'token.example': { auth: base64('me:'), identitytoken: 'T' },
        'registry.example': { registrytoken: 'R' },
        'clear.example': { username: 'u', password: 'p' },
        'helped.example': {},
      },
    })
    expect(await find('docker.io')).toEqual({ username: 'hub', password: 'secret:with:colons', serveraddress: HUB })
    expect(await find('plain.example')).toEqual({ username: 'a', password: 'b', serveraddress: 'plain.example' })
    expect(await find('old.example:5000')).toMatchObject({ username: 'old', password: 'pw' })
    expect(await find('token.example')).toMatchObject({ username: 'me', password: '', identitytoken: 'T' })
    expect(await find('registry.example')).toMatchObject({ registrytoken: 'R' })
    expect(await find('clear.example')).toMatchObject({ username: 'u', password: 'p' })
    for (const none of ['helped.example', 'old.example', 'other.example', 'toString'])
      expect(await find(none)).toBeUndefined()
  })

  it('by its own key goes before one that only has the same host', async () => {
    await write({ auths: { 'https://x.example': { auth: base64('old:1') }, 'x.example': { auth: base64('new:2') } } })
    expect(await find('x.example')).toMatchObject({ username: 'new' })
  })

  it('need not be there', async () => {
    expect(await find('a.example')).toBeUndefined()
    await write('')
    expect(await find('a.example')).toBeUndefined()
    environment['DOCKER_CONFIG'] = join(folder, 'none')
    expect(await find('a.example')).toBeUndefined()
    environment = { HOME: folder }
    await mkdir(join(folder, '.docker'))
    await writeFile(join(folder, '.docker/config.json'), '{"auths":{"a.example":{"auth":"YTpi"}}}')
    expect(await find('a.example')).toMatchObject({ username: 'a', password: 'b' })
  })

  it.each([
    ['text', 'secret{', 'it is not JSON'],
    ['no object', '[]', 'it is no JSON object'],
    ['logins that are none', { auths: [] }, 'its "auths" is no object'],
    ['helpers that are none', { credHelpers: 'x' }, 'its "credHelpers" is no object'],
    ['a login that is none', { auths: { 'a.example': 'secret' } }, 'its login for a.example is no object'],
    ['no base64', { auths: { 'a.example': { auth: 'secret!' } } }, 'has an "auth" that is no user name'],
    ['no password', { auths: { 'a.example': { auth: base64('secret') } } }, 'has an "auth" that is no user name'],
    ['no user', { auths: { 'a.example': { auth: base64(':secret') } } }, 'has an "auth" that is no user name'],
    ['a number', { auths: { 'a.example': { identitytoken: 1 } } }, 'has no text as "identitytoken"'],
  ])('of %s is refused in words, without its secrets', async (_, config, why) => {
    await write(config)
    const error: unknown = await Promise.resolve()
      .then(() => find('a.example'))
      .catch((reason: unknown) => reason)
    expect(error).toMatchObject({ message: expect.stringContaining(`${file} cannot be used`) as string })
    expect(String(error)).toContain(why)
    expect(String(error)).not.toContain('secret')
  })

  it('that is broken for another host is in nobody’s way', async () => {
    await write({ auths: { 'a.example': 7, 'b.example': { auth: base64('a:b') } } })
    expect(await find('b.example')).toMatchObject({ username: 'a' })
  })

  it('is not read from a file of 100 MB, a FIFO or a folder', async () => {
    execFileSync('truncate', ['-s', '100M', file])
    expect(() => new Logins(environment)).toThrow('more than 1048576 bytes')
    await rm(file)
    execFileSync('mkfifo', [file])
    expect(() => new Logins(environment)).toThrow('no regular file')
    await rm(file)
    await mkdir(file)
    expect(() => new Logins(environment)).toThrow('no regular file')
    await rm(file, { recursive: true })
    await symlink('config.json', file)
    expect(() => new Logins(environment)).toThrow('too many symbolic links')
  })

  it('is found in a file that is nested deeply, which is not written', async () => {
    const deep = `${'['.repeat(50_000)}${']'.repeat(50_000)}`
    await write(`{"auths":{"a.example":{"auth":"YTpi"}},"x":${deep}}`)
    expect(await find('a.example')).toMatchObject({ username: 'a' })
    await expect(new Logins(environment).store('a.example', { username: 'a', password: 'c' })).rejects.toThrow(
      'nested too deeply',
    )
    expect(await find('a.example')).toMatchObject({ password: 'b' })
  })
})

describe('a login is written', () => {
  it('as docker writes it, and all else stays', async () => {
    await write({ currentContext: 'x', auths: { 'b.example': { auth: 'YTpi', email: 'e' } }, future: [1, { y: null }] })
    await chmod(file, 0o644)
    expect(await new Logins(environment).store('a.example', { username: 'me', password: 'pw' })).toBe(true)
    expect(await read()).toEqual({
      currentContext: 'x',
      auths: { 'b.example': { auth: 'YTpi', email: 'e' }, 'a.example': { auth: base64('me:pw') } },
      future: [1, { y: null }],
    })
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(await readFile(file, 'utf8')).toMatch(/^\{\n\t"currentContext"/)
    await new Logins(environment).store('docker.io', { username: 'me', identitytoken: 'T' })
    expect(await find('docker.io')).toMatchObject({ username: 'me', identitytoken: 'T' })
    expect(await readdir(folder)).toEqual(['config.json'])
  })

  it('into a folder that is made for its owner', async () => {
    environment['DOCKER_CONFIG'] = join(folder, 'new/docker')
    await new Logins(environment).store('a.example', { username: 'me', password: 'pw' })
    expect((await stat(join(folder, 'new/docker'))).mode & 0o777).toBe(0o700)
    expect(await find('a.example')).toMatchObject({ username: 'me' })
  })

  it.each([true, false])('through a symbolic link, to what it names (there: %s)', async (isThere) => {
    await mkdir(join(folder, 'elsewhere'))
    const target = join(folder, 'elsewhere/real.json')
    if (isThere) await writeFile(target, '{"x":1}')
    await symlink('elsewhere/real.json', file)
    await new Logins(environment).store('a.example', { username: 'me', password: 'pw' })
    expect((await lstat(file)).isSymbolicLink()).toBe(true)
    expect(JSON.parse(await readFile(target, 'utf8'))).toEqual({
      ...(isThere && { x: 1 }),
      auths: { 'a.example': { auth: base64('me:pw') } },
    })
    expect(await readdir(join(folder, 'elsewhere'))).toEqual(['real.json'])
  })

  it.skipIf(process.getuid?.() !== 0)('for the owner that it has', async () => {
    await write({})
    await chown(file, 1234, 1235)
    await new Logins(environment).store('a.example', { username: 'me', password: 'pw' })
    expect(await stat(file)).toMatchObject({ uid: 1234, gid: 1235 })
  })

  it('over those that it replaces, and is forgotten with them', async () => {
    await write({ auths: { 'https://a.example/v1/': { auth: base64('old:1') }, 'b.example': {} } })
    await new Logins(environment).store('a.example', { username: 'me', password: 'pw' })
    expect(await read()).toMatchObject({ auths: { 'a.example': {}, 'b.example': {} } })
    expect(Object.keys(((await read()) as { auths: object }).auths)).toHaveLength(2)
    await new Logins(environment).erase('a.example')
    expect(await read()).toEqual({ auths: { 'b.example': {} } })
  })

  it('beside what others wrote since the file was read', async () => {
    await write({ auths: { 'b.example': {} } })
    const [one, other] = [new Logins(environment), new Logins(environment)]
    await other.store('c.example', { username: 'other', password: 'pw' })
    await one.store('a.example', { username: 'me', password: 'pw' })
    expect(Object.keys(((await read()) as { auths: object }).auths)).toEqual(['b.example', 'c.example', 'a.example'])
    await other.erase('b.example')
    expect(Object.keys(((await read()) as { auths: object }).auths)).toEqual(['c.example', 'a.example'])
  })

  it('nowhere where there is nothing to forget', async () => {
    await new Logins(environment).erase('a.example')
    expect(await readdir(folder)).toEqual([])
  })

  it('and says why it cannot be', async () => {
    environment['DOCKER_CONFIG'] = '/proc/none'
    await expect(new Logins(environment).store('a.example', {})).rejects.toThrow(
      /^cannot write docker's configuration \/proc\/none\/config\.json: /,
    )
  })
})
