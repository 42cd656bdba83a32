import { imageConfigSchema, type ImageConfig } from '@strata/oci'
import { describe, expect, it } from 'vitest'
import { argsOf, envOf, hostnameOf, workdirOf } from './command.js'

const configOf = (config: object): ImageConfig['config'] =>
  imageConfigSchema.parse({ config, rootfs: { type: 'layers' } }).config
const image = (config: object) => ({ name: 'x', config: configOf(config) })
const both = { Entrypoint: ['/e', '1'], Cmd: ['c'] }

describe('what to execute', () => {
  it.each([
    [both, {}, ['/e', '1', 'c']],
    [both, { command: ['d'] }, ['/e', '1', 'd']],
    [both, { command: [] }, ['/e', '1', 'c']],
    [both, { entrypoint: ['/f'] }, ['/f']],
    [both, { entrypoint: ['/f'], command: ['d'] }, ['/f', 'd']],
    [both, { entrypoint: [''], command: ['d'] }, ['d']],
    [both, { entrypoint: [], command: ['d'] }, ['d']],
    [{ Cmd: ['c'] }, {}, ['c']],
    [{ Entrypoint: [''], Cmd: ['c'] }, {}, ['c']],
    [{ Entrypoint: ['', ''] }, {}, ['', '']],
  ])('%j with %j is %j', (config, request, args) => {
    expect(argsOf(image(config), request)).toEqual(args)
  })

  it('nothing is an error of its own', () => {
    for (const [config, request] of [
      [{}, {}],
      [{ Entrypoint: null, Cmd: [] }, {}],
      [both, { entrypoint: [''] }],
    ] as const) {
      expect(() => argsOf(image(config), request)).toThrow(expect.objectContaining({ code: 'nothing_to_run' }) as Error)
    }
  })

  it('a NUL is refused, as the kernel would cut there', () => {
    expect(() => argsOf(image({}), { command: ['a\0b'] })).toThrow('NUL')
  })
})

describe('the environment', () => {
  const facts = { hostname: 'h', home: '/root' }
  const env = (config: object, request: object): unknown =>
    Object.fromEntries(envOf(configOf(config), request, facts).map((entry) => entry.split(/=(.*)/s).slice(0, 2)))

  it('has PATH, HOSTNAME and HOME unless they are given', () => {
    expect(env({}, {})).toEqual({ PATH: expect.stringContaining('/usr/sbin') as string, HOSTNAME: 'h', HOME: '/root' })
    expect(env({ Env: ['PATH=/p', 'HOME=/image'] }, { env: ['HOME=/mine'] })).toEqual({
      PATH: '/p',
      HOSTNAME: 'h',
      HOME: '/mine',
    })
  })

  it('takes the last of a name, removes a bare one, keeps "=" in values', () => {
    expect(env({ Env: ['A=1', 'B=2', 'A=3'] }, { env: ['B', 'C=x=y', 'D='] })).toMatchObject({
      A: '3',
      C: 'x=y',
      D: '',
    })
    expect(env({ Env: ['B=2'] }, { env: ['B'] })).not.toHaveProperty('B')
  })

  it('refuses a variable without a name', () => {
    expect(() => envOf(undefined, { env: ['=x'] }, facts)).toThrow('no name')
  })
})

describe('working directory and host name', () => {
  it('the request must be absolute, the image need not', () => {
    expect(workdirOf(configOf({ WorkingDir: 'srv' }), {})).toBe('/srv')
    expect(workdirOf(undefined, {})).toBe('/')
    expect(workdirOf(configOf({ WorkingDir: '/srv' }), { workdir: '/w' })).toBe('/w')
    expect(() => workdirOf(undefined, { workdir: 'w' })).toThrow('not absolute')
  })

  it('a host name is a name and not two lines of /etc/hosts', () => {
    const id = 'a'.repeat(64)
    expect(hostnameOf(id, {}, 'host')).toBe('aaaaaaaaaaaa')
    expect(hostnameOf(id, { network: 'host' }, 'host')).toBe('host')
    expect(hostnameOf(id, { hostname: 'x.y-z' }, 'host')).toBe('x.y-z')
    for (const hostname of ['a b', 'a\nb', '-a', 'a'.repeat(64)])
      expect(() => hostnameOf(id, { hostname }, 'host')).toThrow('host name')
  })
})
