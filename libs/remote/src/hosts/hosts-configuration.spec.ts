import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { selfSigned } from '../testing/index.js'
import { HostsConfiguration } from './hosts-configuration.js'
import type { RegistryHosts } from './registry-hosts.js'

let first: string
let second: string
beforeEach(async () => {
  first = await mkdtemp(join(tmpdir(), 'strata-hosts-'))
  second = await mkdtemp(join(tmpdir(), 'strata-hosts-'))
})
afterEach(async () => {
  for (const folder of [first, second]) await rm(folder, { recursive: true })
})

async function put(file: string, content: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, content)
}

async function of(name: string, isInsecure = false): Promise<RegistryHosts> {
  return await new HostsConfiguration({ folders: [first, second] }).of(name, isInsecure)
}

const roots = ({ hosts }: RegistryHosts): string[] => hosts.map(({ root }) => root.href)

describe('without a configuration', () => {
  it('a registry is where its name says', async () => {
    expect(roots(await of('registry.example'))).toEqual(['https://registry.example/v2'])
    expect(roots(await of('docker.io'))).toEqual(['https://registry-1.docker.io/v2'])
    expect(await of('docker.io')).toMatchObject({ realms: ['auth.docker.io:443'] })
    expect(await of('registry.gitlab.com')).toMatchObject({ realms: ['gitlab.com:443'] })
  })

  it('this machine needs no certificate, others do, and `insecure` is for the one that is named', async () => {
    for (const [name, insecure, isOpen] of [
      ['localhost:5000', false, true],
      ['127.0.0.1:5000', false, true],
      ['127.9.9.9', false, true],
      ['registry.example', false, false],
      ['localhost.example', false, false],
      ['registry.example', true, true],
    ] as const) {
      const { hosts } = await of(name, insecure)
      expect(hosts, name).toMatchObject([{ mayBePlain: isOpen, trust: { isBlind: isOpen } }])
    }
    // HTTP would be at another port than the one that was named.
    expect((await of('localhost:443')).hosts).toMatchObject([{ mayBePlain: false }])
  })
})

describe('containerd’s hosts.toml', () => {
  it('is read as it is', async () => {
    const { cert, key } = selfSigned()
    const folder = join(first, 'docker.io')
    await put(join(folder, 'ca.crt'), cert)
    await put(join(folder, 'client.pem'), `${cert}${key}`)
    await put(join(folder, 'client.cert'), cert)
    await put(join(folder, 'client.key'), key)
    await put(
      join(folder, 'hosts.toml'),
      `
server = "https://docker.io"
dial_timeout = "3s"

[host."https://mirror.example"]
  capabilities = ["pull", "Resolve"]
  ca = "ca.crt"
  [host."https://mirror.example".header]
    x-custom = "value"
    x-list = ["a", "b"]

[host."http://10.0.0.1:5000/harbor/v2/"]
  skip_verify = true
  client = "client.pem"

[host."plain.example/some/path"]
  override_path = true
  ca = ["ca.crt"]
  client = [["client.cert", "client.key"]]

[host."http://192.168.1.1"]
  capabilities = ["pull"]
`,
    )
    const found = await of('docker.io')
    expect(roots(found)).toEqual([
      'https://mirror.example/v2',
      'https://10.0.0.1:5000/harbor/v2',
      'https://plain.example/some/path',
      'http://192.168.1.1/v2',
      'https://docker.io/v2',
    ])
    const [mirror, harbor, plain, local, server] = found.hosts
    expect(mirror).toMatchObject({
      capabilities: new Set(['pull', 'resolve']),
      trust: { ca: [cert], client: [], isBlind: false },
      headers: { 'x-custom': ['value'], 'x-list': ['a', 'b'] },
      isServer: false,
      mayBePlain: false,
    })
    // Of http with a word on TLS, containerd tries https first.
    expect(harbor).toMatchObject({ mayBePlain: true, trust: { isBlind: true, client: [{ cert: `${cert}${key}` }] } })
    expect(plain).toMatchObject({ trust: { ca: [cert], client: [{ cert, key }] } })
    expect(local).toMatchObject({ mayBePlain: false, capabilities: new Set(['pull']) })
    expect(server).toMatchObject({ isServer: true, mayBePlain: false })
  })

  it('without a server has mirrors and the registry itself', async () => {
    await put(join(first, '_default', 'hosts.toml'), '[host."https://mirror.example"]\n')
    expect(roots(await of('ghcr.io'))).toEqual(['https://mirror.example/v2', 'https://ghcr.io/v2'])
  })

  it('has keys of ours for where a registry may lead', async () => {
    await put(
      join(first, 'registry.example', 'hosts.toml'),
      'realms = ["auth.example", "http://plain.example"]\nredirects = ["10.0.0.5:9000"]\n',
    )
    expect(await of('registry.example')).toMatchObject({
      realms: ['auth.example:443', 'plain.example:80'],
      redirects: ['10.0.0.5:9000'],
    })
  })
})

it('of several folders the first one that has the host counts, `_default` after all', async () => {
  await put(join(first, '_default', 'hosts.toml'), 'server = "https://default.example"\n')
  await put(join(second, 'a.example_5000_', 'hosts.toml'), 'server = "https://second.example"\n')
  expect(roots(await of('a.example:5000'))).toEqual(['https://second.example/v2'])
  await put(join(first, 'a.example:5000', 'hosts.toml'), 'server = "https://first.example"\n')
  expect(roots(await of('b.example'))).toEqual(['https://default.example/v2'])
  await rm(join(second, 'a.example_5000_'), { recursive: true })
  expect(roots(await of('a.example:5000'))).toEqual(['https://first.example/v2'])
})

it('docker’s certificates are authorities and pairs', async () => {
  const { cert, key } = selfSigned()
  const folder = join(second, 'localhost:5000')
  await put(join(folder, 'ca.crt'), cert)
  await put(join(folder, 'client.cert'), cert)
  await put(join(folder, 'client.key'), key)
  await put(join(folder, 'README'), 'nothing of it')
  const { hosts } = await of('localhost:5000')
  // Who gives an authority wants it to be asked.
  expect(hosts).toMatchObject([{ trust: { ca: [cert], client: [{ cert, key }], isBlind: false }, mayBePlain: false }])
  await rm(join(folder, 'client.cert'))
  await expect(of('localhost:5000')).rejects.toThrow('client.key: its certificate is missing')
})

describe('what is broken is told with file and line', () => {
  it.each([
    ['server = "https://a.example"\nca = \n', 2, ''],
    ['server = "https://a.example"\n[host."https://m.example"]\n  skip_verify = "yes"\n', 3, 'skip_verify'],
    ['[host."https://m.example"]\n  capabilities = ["pull", "fly"]\n', 2, '"fly" is no capability'],
    ['\n[host."ftp://m.example"]\n', 2, 'no http or https URL'],
    ['\nserver = "https://user:pass@a.example"\n', 2, 'no http or https URL'],
    ['server = "https://a.example"\nrealms = "auth.example"\n', 2, 'realms'],
    ['\n\nrealms = ["a b"]\n', 3, 'no http or https URL'],
    ['[host."https://m.example"]\n[host."https://m.example".header]\nhost = "x"\n', 3, 'no header'],
    ['[host."https://m.example"]\n[host."https://m.example".header]\nx-a = "a\\r\\nb: c"\n', 3, 'no header'],
  ])('%j', async (toml, line, why) => {
    const file = join(first, 'a.example', 'hosts.toml')
    await put(file, toml)
    await expect(of('a.example')).rejects.toMatchObject({
      code: 'hosts_invalid',
      message: expect.stringMatching(new RegExp(`${file}, line ${line}: .*${why}`)) as string,
    })
  })

  it('and so is a file that is missing, too large, a folder or no certificate', async () => {
    const file = join(first, 'a.example', 'hosts.toml')
    await put(file, 'ca = "none.crt"\n')
    await expect(of('a.example')).rejects.toThrow('none.crt: there is no such file')
    await put(join(first, 'a.example', 'none.crt'), 'hello')
    await expect(of('a.example')).rejects.toThrow('holds no certificate')
    await put(file, ' '.repeat(1024 * 1024 + 1))
    await expect(of('a.example')).rejects.toThrow('more than 1048576 bytes')
    await rm(file)
    await mkdir(file)
    await expect(of('a.example')).rejects.toMatchObject({ code: 'hosts_invalid' })
  })
})
