import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CredentialHelper, HELPER_LIMITS } from './helper.js'
import { Logins } from './logins.js'

let folder: string
let environment: NodeJS.ProcessEnv
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'strata-helper-'))
  environment = { DOCKER_CONFIG: folder, PATH: `${folder}:${process.env['PATH'] ?? ''}` }
})
afterEach(() => rm(folder, { recursive: true }))

const program = (name: string, script: string): Promise<void> =>
  writeFile(join(folder, `docker-credential-${name}`), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
const config = (value: unknown): Promise<void> => writeFile(join(folder, 'config.json'), JSON.stringify(value))
const get = (limits = HELPER_LIMITS) => new CredentialHelper('x', environment, limits).get('a.example')

describe('a credential helper', () => {
  it('is asked by docker’s protocol', async () => {
    await program('x', `echo "$1 $(cat)" >> ${folder}/seen; echo '{"ServerURL":"s","Username":"me","Secret":"pw"}'`)
    const helper = new CredentialHelper('x', environment)
    expect(await helper.get('a.example')).toEqual({ username: 'me', password: 'pw' })
    await helper.store('a.example', { username: 'me', password: 'p"w' })
    await helper.store('a.example', { username: 'me', identitytoken: 'T' })
    await helper.erase('a.example')
    expect((await readFile(join(folder, 'seen'), 'utf8')).split('\n')).toEqual([
      'get a.example',
      'store {"ServerURL":"a.example","Username":"me","Secret":"p\\"w"}',
      'store {"ServerURL":"a.example","Username":"<token>","Secret":"T"}',
      'erase a.example',
      '',
    ])
  })

  it('may keep an identity token, or nothing', async () => {
    await program('x', `echo '{"Username":"<token>","Secret":"T"}'`)
    expect(await get()).toEqual({ identitytoken: 'T' })
    await program('x', `echo credentials not found in native keychain; exit 1`)
    expect(await get()).toBeUndefined()
  })

  it.each([
    ['fails', 'echo locked; exit 3', 'docker-credential-x get failed (3): locked'],
    ['dies', 'kill -9 $$', 'docker-credential-x get failed (SIGKILL)'],
    ['says no JSON', 'echo secret', 'did not answer with a user name and a secret'],
    ['says something else', `echo '{"Username":"secret"}'`, 'did not answer with a user name and a secret'],
    ['says nothing', '', 'did not answer with a user name and a secret'],
    ['answers without end', 'yes secret', 'docker-credential-x get answered with more than 65536 bytes'],
  ])('that %s is an error', async (_, script, why) => {
    await program('x', script)
    const error: unknown = await get().catch((reason: unknown) => reason)
    expect(String(error)).toContain(why)
    expect(String(error)).not.toContain('secret ')
  })

  it('that hangs is ended, with a program of its own that holds its output', async () => {
    // The second one ends with the pipe that the test closes.
    await program('x', `(cat < ${folder}/fifo) & echo started > ${folder}/started; exec cat ${folder}/fifo`)
    const { execFileSync } = await import('node:child_process')
    execFileSync('mkfifo', [join(folder, 'fifo')])
    await expect(get({ ...HELPER_LIMITS, maxMs: 300 })).rejects.toThrow('took longer than 0.3 seconds')
    await writeFile(join(folder, 'fifo'), '').catch(() => undefined)
  })

  it.each(['../x', 'a/b', '', 'a b', 'x\n', '$(id)', 7, {}, 'x'.repeat(101)])('is not called %j', (name) => {
    expect(() => new CredentialHelper(name, environment)).toThrow('names no credential helper by')
  })

  it('is in PATH, and never in the working directory', async () => {
    await program('x', '')
    for (const path of ['', '.', ':', `${folder}/none`])
      expect(() => new CredentialHelper('x', { PATH: path })).toThrow('docker-credential-x, which')
  })
})

describe('the helpers that the configuration names', () => {
  it('are asked for their hosts, the store for the others, and the file for none', async () => {
    await program('one', `read server; echo "{\\"Username\\":\\"one\\",\\"Secret\\":\\"$server\\"}"`)
    await program('all', `read server; echo "{\\"Username\\":\\"all\\",\\"Secret\\":\\"$server\\"}"`)
    const auths = { 'c.example': { auth: 'YTpi' }, 'a.example': { auth: 'YTpi' } }
    await config({ auths, credsStore: 'all', credHelpers: { 'a.example': 'one', 'c.example': '' } })
    const logins = new Logins(environment)
    expect(await logins.find('a.example')).toMatchObject({ username: 'one', password: 'a.example' })
    expect(await logins.find('docker.io')).toMatchObject({ username: 'all', password: 'https://index.docker.io/v1/' })
    expect(await logins.find('c.example')).toMatchObject({ username: 'a', password: 'b' })
  })

  it('keep what docker’s file then only names', async () => {
    await program('x', `echo "$1 $(cat)" >> ${folder}/seen`)
    await config({ credsStore: 'x', other: true })
    expect(await new Logins(environment).store('a.example', { username: 'me', password: 'pw' })).toBe(false)
    const text = await readFile(join(folder, 'config.json'), 'utf8')
    expect(JSON.parse(text)).toEqual({ credsStore: 'x', other: true, auths: { 'a.example': {} } })
    await new Logins(environment).erase('a.example')
    expect(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))).toMatchObject({ auths: {} })
    const seen = await readFile(join(folder, 'seen'), 'utf8')
    expect(seen).toContain('erase a.example\nerase http://a.example\nerase https://a.example\n')
  })

  it('forget a login if they know it by any of its keys', async () => {
    await program('x', `read server; [ "$server" = https://a.example ]`)
    await config({ credsStore: 'x', auths: { 'a.example': {} } })
    await new Logins(environment).erase('a.example')
    await program('x', 'exit 1')
    await expect(new Logins(environment).erase('a.example')).rejects.toThrow('erase failed (1)')
  })
})
