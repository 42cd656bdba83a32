import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { RegistryDouble } from '../testing/registry-double.js'
import { strata } from '../testing/strata.js'

let registry: RegistryDouble
let folder: string
let environment: NodeJS.ProcessEnv
beforeEach(async () => {
  registry = await RegistryDouble.start()
  folder = await mkdtemp(join(tmpdir(), 'strata-login-'))
  environment = { DOCKER_CONFIG: folder, PATH: `${folder}:${process.env['PATH'] ?? ''}` }
})
afterEach(async () => {
  await registry[Symbol.asyncDispose]()
  await rm(folder, { recursive: true })
})

const run = (args: readonly string[], input = '') => strata(undefined, args, { input, environment })
const login = (password: string, ...args: string[]) =>
  run(['login', '-u', 'me', '--password-stdin', ...args, registry.host], password)
const config = async (): Promise<unknown> => JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))
const write = (value: unknown): Promise<void> => writeFile(join(folder, 'config.json'), JSON.stringify(value))
const OWN = { auth: Buffer.from('me:pw').toString('base64') }
const succeeded = { code: 0, stdout: 'Login Succeeded\n' }

describe('strata login', () => {
  it('asks the registry, and stores what it takes', async () => {
    const result = await login('pw\n')
    expect(result).toMatchObject(succeeded)
    expect(result.stderr).toContain(`WARNING! Your credentials are stored unencrypted in '${folder}/config.json'.`)
    expect(await config()).toEqual({ auths: { [registry.host]: OWN } })
    expect(registry.seen.filter(({ url }) => url !== '/v2/')).toEqual([])
  })

  it('stores nothing that the registry does not take', async () => {
    const { code, stdout, stderr } = await login('wrong')
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toBe(
      `strata: ${registry.host} does not take this login: unauthorized: incorrect username or password\n`,
    )
    await expect(config()).rejects.toThrow('ENOENT')
  })

  it('gets a token where the registry asks for one', async () => {
    registry.asks = 'Bearer realm="http://{host}/token?a=b",service="the registry"'
    expect(await login('pw')).toMatchObject(succeeded)
    expect(registry.seen.map(({ url }) => url)).toEqual([
      '/v2/',
      '/token?a=b&service=the+registry&account=me&client_id=docker&offline_token=true',
      '/v2/',
    ])
    expect(await config()).toEqual({ auths: { [registry.host]: OWN } })
    expect((await login('wrong')).code).toBe(1)
  })

  it('keeps an identity token instead of the password, if it gets one', async () => {
    registry.asks = 'Bearer realm="http://{host}/token"'
    registry.gives = { access_token: 'T', refresh_token: 'identity' }
    expect(await login('pw')).toMatchObject({ ...succeeded, stderr: '' })
    const auth = Buffer.from('me:').toString('base64')
    expect(await config()).toEqual({ auths: { [registry.host]: { auth, identitytoken: 'identity' } } })
  })

  it('gives the login to the helper that docker’s configuration names', async () => {
    await write({ credsStore: 'test', x: 1 })
    const script = `#!/bin/sh\necho "$1 $(cat)" >> ${folder}/kept\n`
    await writeFile(join(folder, 'docker-credential-test'), script, { mode: 0o755 })
    expect(await login('pw')).toMatchObject({ ...succeeded, stderr: '' })
    expect(await readFile(join(folder, 'kept'), 'utf8')).toBe(
      `store {"ServerURL":"${registry.host}","Username":"me","Secret":"pw"}\n`,
    )
    expect(await config()).toEqual({ credsStore: 'test', x: 1, auths: { [registry.host]: {} } })
  })

  it('warns of -p', async () => {
    const { code, stderr } = await run(['login', '-u', 'me', '-p', 'pw', registry.host])
    expect(code).toBe(0)
    expect(stderr).toContain('WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n')
  })

  it('without a name uses what is stored', async () => {
    await write({ auths: { [`http://${registry.host}/v2/`]: OWN } })
    const result = await run(['login', registry.host])
    expect(result).toMatchObject(succeeded)
    expect(result.stderr).toContain('Authenticating with existing credentials... [Username: me]\n')
    await write({ auths: { [registry.host]: { auth: Buffer.from('me\x1b[2J:old').toString('base64') } } })
    const refused = await run(['login', registry.host])
    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain('Login did not succeed, error: ')
    expect(refused.stderr).not.toContain('\x1b')
  })

  it.each([
    [['-u', 'me', '-p', 'x', '--password-stdin'], 'cannot specify both --password and --password-stdin'],
    [['--password-stdin'], 'the --password-stdin option requires --username to be set'],
    [['-u', '', '-p', 'x'], 'username is empty'],
    [['-u', 'me', '-p', ''], 'password is empty'],
    [['-u', 'me', '--password-stdin'], 'password is empty'],
    [['-u', 'me'], 'cannot perform an interactive login from a non-TTY device'],
    [[], 'cannot perform an interactive login from a non-TTY device'],
  ])('%j is refused', async (args, why) => {
    const { code, stderr } = await run(['login', ...args, registry.host], '\n')
    expect(code).toBe(1)
    expect(stderr).toContain(why)
    expect(registry.seen).toEqual([])
  })

  it('takes no password of 1 MiB, and does not wait for its end', async () => {
    expect((await login('x'.repeat(1024 * 1024))).stderr).toContain('more than 65536 bytes')
  })

  it('asks on a terminal, without showing the password', async () => {
    const strataBin = fileURLToPath(new URL('../../bin/strata.mjs', import.meta.url))
    const child = spawn('script', ['-qec', `${strataBin} login ${registry.host}`, '/dev/null'], {
      env: environment,
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    let shown = ''
    let at = 0
    const answers: readonly (readonly [string, string])[] = [
      ['Username: ', 'me\r'],
      ['Password: ', 'wrongx\x7f\x7f\x7f\x7f\x7f\x7fpw\r'],
    ]
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
      shown += chunk.toString()
      const [question, answer] = answers[at] ?? []
      if (question === undefined || answer === undefined || !shown.includes(question)) continue
      child.stdin.write(answer)
      at++
    }
    expect(shown).toContain('Login Succeeded')
    expect(shown).not.toContain('pw')
    expect(shown).not.toContain('wrong')
    expect(await config()).toEqual({ auths: { [registry.host]: OWN } })
  })
})

describe('strata logout', () => {
  it('forgets what both tools know, and nothing else', async () => {
    await write({ auths: { 'https://a.example/v1/': OWN, 'a.example': OWN, 'b.example': OWN } })
    const stdout = 'Removing login credentials for a.example\n'
    expect(await run(['logout', 'https://a.example'])).toMatchObject({ code: 0, stdout, stderr: '' })
    expect(await config()).toEqual({ auths: { 'b.example': OWN } })
    expect(await run(['logout', 'a.example'])).toMatchObject({ code: 0, stdout })
  })

  it.each([[[]], [['docker.io']], [['index.docker.io']]])('%j is of Docker Hub', async (args) => {
    const key = 'https://index.docker.io/v1/'
    await write({ auths: { [key]: OWN, 'b.example': OWN } })
    expect((await run(['logout', ...args])).stdout).toBe(`Removing login credentials for ${key}\n`)
    expect(await config()).toEqual({ auths: { 'b.example': OWN } })
  })

  it('warns of a helper that cannot', async () => {
    await write({ credsStore: 'none' })
    const { code, stderr } = await run(['logout', 'a.example'])
    expect(code).toBe(0)
    expect(stderr).toContain(
      'WARNING: could not erase credentials:\na.example: the credential helper docker-credential-none',
    )
  })
})
