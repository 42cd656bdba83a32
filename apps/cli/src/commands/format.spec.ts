import { afterAll, beforeAll, expect, it } from 'vitest'
import { ServiceDouble } from '../testing/service-double.js'
import { strata } from '../testing/strata.js'

const id = (digit: string): string => `sha256:${digit.repeat(64)}`
const container = {
  id: 'c'.repeat(64),
  name: 'web',
  image: 'x/y:1',
  imageId: id('a'),
  node: 'n1',
  command: ['sh', '-c', 'exit 7'],
  state: 'exited',
  exitCode: 7,
  createdAt: '2026-01-02T03:04:05.678Z',
  startedAt: '2026-01-02T03:04:06.000Z',
  finishedAt: '2026-01-02T03:04:07.000Z',
  autoRemove: false,
  network: 'none',
}
const image = {
  id: id('a'),
  digest: id('b'),
  names: ['localhost:5000/x:1', 'x:2'],
  size: 7,
  created: '2020-01-01T00:00:00Z',
  architecture: 'amd64',
  os: 'linux',
  config: {
    user: 'web',
    env: ['A=1', 'B=2'],
    entrypoint: [],
    cmd: ['sh'],
    workdir: '/srv',
    volumes: ['/data'],
    exposedPorts: ['80/tcp'],
    labels: { 'org.x': 'y' },
    stopSignal: '',
  },
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  layers: [{ digest: id('e'), diffId: id('d'), chainId: id('f'), size: 5, mediaType: 'x/layer' }],
  history: [{ createdBy: 'RUN y', comment: '', diffId: id('d') }],
}
const job = {
  id: '1-2',
  kind: 'load',
  state: 'failed',
  step: 'x',
  bytes: 1,
  entries: 0,
  createdAt: container.createdAt,
  error: { code: 'layer_invalid', message: 'no tar' },
}
const file = {
  name: 'l',
  type: 'symlink',
  size: 0,
  mode: '0777',
  uid: 0,
  gid: 0,
  mtime: 0,
  target: 't',
  layer: id('d'),
}

let service: ServiceDouble
beforeAll(async () => {
  service = (await ServiceDouble.start())
    .json('GET /v1/containers', 200, { containers: [container] })
    .json('GET /v1/containers/web', 200, container)
    .json('GET /v1/images/x', 200, image)
    .json('GET /v1/images/x/history', 200, { steps: [{ createdBy: 'RUN y', comment: '' }] })
    .json('GET /v1/images/x/files', 200, { self: { ...file, type: 'directory' }, files: [file] })
    .json('GET /v1/images/x/diff', 200, {
      changes: [{ kind: 'added', path: 'etc/x', type: 'file', after: 3 }],
      added: { count: 1, bytes: 3 },
    })
    .json('GET /v1/jobs', 200, { jobs: [job] })
    .json('GET /v1/version', 200, { version: '9.9.9', api: '1', node: '24' })
})
afterAll(() => service[Symbol.asyncDispose]())

it.each<[args: string[], stdout: string]>([
  [['ps', '-q', '--format', '{{.ID}} {{.Names}} {{.State}} {{.Networks}}'], 'cccccccccccc web exited none\n'],
  [
    ['ps', '--format', 'table {{.ID}}\\t{{.CreatedAt}}'],
    'CONTAINER ID   CREATED AT\ncccccccccccc   2026-01-02 03:04:05 +0000 UTC\n',
  ],
  [['ps', '--format', '{{json .Command}}'], '"\\"sh -c exit 7\\""\n'],
  [['history', '--format', '{{.CreatedBy}}|{{.Size}}', 'x'], 'RUN y|0B\n'],
  [['jobs', '--format', '{{.ID}} {{.Error}} {{.Step}}'], '1-2 layer_invalid no tar\n'],
  [['jobs', '--format', 'json'], `${JSON.stringify(job)}\n`],
  [['ls', '--format', '{{.Mode}} {{.Name}} {{.Target}}', 'x'], 'lrwxrwxrwx l t\n'],
  [['diff', '--format', '{{.Kind}} {{.Path}} {{.After}}', '--layer', '0', 'x'], 'A /etc/x 3\n'],
  [['version', '--format', '{{.Server.Version}}'], '9.9.9\n'],
  [['inspect', '-f', '{{.State.Status}} {{.State.ExitCode}} {{.Name}}', 'web'], 'exited 7 /web\n'],
  [['inspect', '--format', '{{range .RepoTags}}{{println .}}{{end}}', 'x'], 'localhost:5000/x:1\nx:2\n\n'],
  [
    [
      'inspect',
      '--format',
      '{{index .Config.Labels "org.x"}} {{json .Config.ExposedPorts}} {{index .RootFS.Layers 0}}',
      'x',
    ],
    `y {"80/tcp":{}} ${id('d')}\n`,
  ],
  [['inspect', '--format', '{{index .RepoDigests 0}}', 'x'], `localhost:5000/x@${id('b')}\n`],
])('%j', async (args, stdout) => {
  expect(await strata(service, args)).toEqual({ code: 0, signal: null, stderr: '', stdout })
})

it.each([
  [['ps', '--format', '{{.Nmaes}}'], 1, 'there is no field Nmaes: there are ID, Image,'],
  [['ps', '--format', '{{.ID'], 1, 'template: unclosed action'],
  [['ps', '--format', 'yaml'], 125, 'Formats are table, json, and templates'],
  [['inspect', '--format', 'table', 'web'], 1, 'inspect has no table'],
])('what is no format is one sentence: %j', async (args, code, says) => {
  const outcome = await strata(service, args)
  expect(outcome).toMatchObject({ code, stdout: '' })
  expect(outcome.stderr).toContain(says)
  expect(outcome.stderr.split('\n')).toHaveLength(2)
})

it('an inspected object has docker’s names, with and without a format, and what only Strata has', async () => {
  const { stdout } = await strata(service, ['inspect', 'web', 'x'])
  expect(JSON.parse(stdout)).toMatchObject([
    { Id: container.id, Path: 'sh', Args: ['-c', 'exit 7'], State: { Running: false, ExitCode: 7 }, Node: 'n1' },
    {
      Id: image.id,
      Config: { User: 'web', WorkingDir: '/srv', Labels: { 'org.x': 'y' } },
      RootFS: { Type: 'layers' },
      Digest: image.digest,
      Platforms: ['linux/amd64'],
      Layers: [{ Digest: id('e'), DiffId: id('d'), ChainId: id('f'), Size: 5 }],
      History: [{ CreatedBy: 'RUN y', DiffId: id('d') }],
    },
  ])
  expect(stdout).toMatch(/^\[\n {4}\{\n {8}"Id": /)
  const line = await strata(service, ['inspect', '--format', 'json', 'web', 'x'])
  expect(line.stdout).toBe(`${JSON.stringify(JSON.parse(stdout))}\n`)
})
