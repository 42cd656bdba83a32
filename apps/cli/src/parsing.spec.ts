import { describe, expect, it } from 'vitest'
import { commandText, status } from './commands/containers.js'
import { splitName } from './format/table.js'
import { flagName, unknownCommand } from './docker.js'
import { readEndpoint } from './endpoint.js'
import { collectEnv, parseEnvFile } from './env-file.js'
import { serverEvents } from './events.js'

describe('env files', () => {
  const parse = (text: string): string[] => parseEnvFile(text, 'f', { HERE: 'h', EMPTY: '' })
  it('takes values as they stand', () => {
    expect(parse('\uFEFFA=1\r\n\n# no\n  B="q # x" \nC=a=b\nD=\n')).toEqual(['A=1', 'B="q # x" ', 'C=a=b', 'D='])
  })
  it('takes a bare name from our own environment, or leaves it out', () => {
    expect(parse('HERE\nEMPTY\nABSENT')).toEqual(['HERE=h', 'EMPTY='])
  })
  it.each(['A B=1', '=1', 'NA ME'])('refuses %j', (line) => {
    expect(() => parse(line)).toThrow('invalid env file f')
  })
  it('refuses a file that is not there, and lets -e come last', () => {
    expect(() => collectEnv(['/nonexistent/env'], [], {})).toThrow('open /nonexistent/env: no such file or directory')
    expect(collectEnv([], ['A=1', 'X', 'A=2'], { X: 'y' })).toEqual(['A=1', 'X=y', 'A=2'])
    expect(() => collectEnv([], ['=1'], {})).toThrow('invalid environment variable: =1')
  })
})

describe('STRATA_HOST', () => {
  it('is a unix socket by default', () => {
    expect(readEndpoint({})).toEqual({
      kind: 'unix',
      name: 'unix:///run/strata/strata.sock',
      socketPath: '/run/strata/strata.sock',
    })
  })
  it('may be TCP, with the token', () => {
    expect(readEndpoint({ STRATA_HOST: 'http://[::1]:7070', STRATA_TOKEN: 't' })).toEqual({
      kind: 'tcp',
      name: 'http://[::1]:7070',
      host: '::1',
      port: 7070,
      token: 't',
    })
    expect(readEndpoint({ STRATA_HOST: 'http://far.example', STRATA_TOKEN_FILE: '/etc/hostname' })).toMatchObject({
      port: 80,
      token: undefined,
    })
    expect(readEndpoint({ STRATA_HOST: 'https://far.example', STRATA_TOKEN_FILE: '/etc/hostname' })).toMatchObject({
      port: 443,
      token: undefined,
      tls: {},
    })
  })
  it.each(['unix://x', 'tcp://a:1', 'https://a/path', 'https://user@a', 'http://a/path', 'nonsense'])(
    'refuses %s',
    (text) => {
      expect(() => readEndpoint({ STRATA_HOST: text })).toThrow('STRATA_HOST')
    },
  )
})

describe('server-sent events', () => {
  it('are read across any cut', async () => {
    const bytes = Buffer.from(
      'id: 1\nevent: progress\ndata: {"a":"ä"}\n\n: comment\r\nevent: end\r\ndata: x\r\ndata: y\r\n\r\ndata: cut',
    )
    async function* single(): AsyncGenerator<Buffer> {
      for (const byte of bytes) yield await Promise.resolve(Buffer.from([byte]))
    }
    const got = []
    for await (const event of serverEvents(single())) got.push(event)
    expect(got).toEqual([
      { event: 'progress', data: '{"a":"ä"}' },
      { event: 'end', data: 'x\ny' },
    ])
  })
})

describe('docker’s words', () => {
  it('knows its commands', () => {
    expect(unknownCommand('push')).toContain('is a docker command')
    expect(unknownCommand('pus')).toContain('is not a strata command')
  })
  it.each([
    ['-p80:80', '-p'],
    ['-it', '-i'],
    ['--publish=1', '--publish'],
    ['--mount', '--mount'],
  ])('names the flag of %s', (argument, flag) => {
    expect(flagName(argument)).toBe(flag)
  })
  it.each([
    ['fx/odd:3', ['fx/odd', '3']],
    ['localhost:5000/x', ['localhost:5000/x', '<none>']],
    ['x@sha256:00', ['x', '<none>']],
    ['', ['<none>', '<none>']],
  ])('splits %j', (name, parts) => {
    expect(splitName(name)).toEqual(parts)
  })
  it('shows commands and states', () => {
    expect(commandText(['/bin/sh', '-c', 'echo hello world'])).toBe('"/bin/sh -c echo hel…"')
    const container = {
      id: 'c',
      name: 'n',
      image: 'i',
      imageId: `sha256:${'0'.repeat(64)}` as never,
      node: 'n',
      command: [],
      createdAt: new Date(0).toISOString(),
      autoRemove: false,
      network: 'none' as const,
    }
    expect(status({ ...container, state: 'running', startedAt: new Date(0).toISOString() }, 5000)).toBe('Up 5 seconds')
    expect(
      status(
        {
          ...container,
          state: 'exited',
          exitCode: 125,
          reason: 'start interrupted',
          finishedAt: new Date(0).toISOString(),
        },
        5000,
      ),
    ).toBe('Exited (125) 5 seconds ago: start interrupted')
  })
})
