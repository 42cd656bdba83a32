import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createProgram } from './program.js'
import { printableLine, printableText } from './terminal.js'
import { frame, sendJson, sendProblem, ServiceDouble } from './testing/service-double.js'
import { strata } from './testing/strata.js'

/** ESC, CSI as one character, DEL, an override of the direction, an isolate, a line separator. */
const EVIL = 'a\x1b]0;owned\x07\u009b31m\x7f\u202eb\u2066c\u2028d'
// eslint-disable-next-line no-control-regex -- control characters are what this is about
const OBEYED = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/

describe('a text for the terminal', () => {
  it.each([
    ['plain', 'a b é 漢 😀', 'a b é 漢 😀'],
    ['a line and a colour', 'a\n\x1b[31m', String.raw`a\n\u001b[31m`],
    ['DEL and C1', '\x7f\x80\u009b\u009f', String.raw`\u007f\u0080\u009b\u009f`],
    ['other directions', '\u061c\u200e\u202e\u2066', String.raw`\u061c\u200e\u202e\u2066`],
    ['a backslash', '\\', '\\'],
  ])('%s', (_, text, shown) => expect(printableLine(text)).toBe(shown))

  it('of several lines keeps them, and JSON its values', () => {
    const value = { [EVIL]: [EVIL, 'a\nb'] }
    const text = printableText(JSON.stringify(value, undefined, 2))
    expect(text).not.toMatch(OBEYED)
    expect(text.split('\n')).toHaveLength(6)
    expect(JSON.parse(text)).toEqual(value)
  })
})

const tally = { count: 1, bytes: 1 }
const container = {
  id: EVIL,
  name: EVIL,
  image: EVIL,
  imageId: EVIL,
  command: [EVIL],
  node: EVIL,
  state: 'exited',
  exitCode: 0,
  createdAt: EVIL,
  finishedAt: EVIL,
  reason: EVIL,
}
const job = { id: EVIL, kind: EVIL, state: 'failed', step: EVIL, bytes: 1, createdAt: EVIL, error: { message: EVIL } }
const file = { name: EVIL, type: 'symlink', size: 1, mode: '0777', uid: 0, gid: 0, mtime: 0, target: EVIL, layer: EVIL }
const collected = {
  images: [EVIL],
  bytes: 1,
  store: { blobs: tally, data: tally, indexes: tally, partialUploads: tally },
  nodes: [
    { node: EVIL, done: true, roots: tally, layers: tally },
    { node: EVIL, done: false, reason: EVIL },
  ],
}
const found = { format: 'docker', writer: EVIL, layers: { new: tally, known: tally } }
const loaded = {
  images: [
    { id: EVIL, names: [EVIL], missing: [EVIL], platforms: [EVIL] },
    { id: EVIL, names: [] },
  ],
  found,
  pulled: { name: EVIL, digest: EVIL, mediaType: EVIL, changed: true },
}
const nodeView = {
  id: EVIL,
  host: EVIL,
  state: 'ready',
  since: EVIL,
  driver: EVIL,
  driverReason: EVIL,
  runtime: EVIL,
  kernel: EVIL,
  warnings: [EVIL],
  containers: 1,
}
const kinds = { total: 1, active: 1, bytes: 1, reclaimable: 1 }

/** By method and path: what a hostile service answers. */
const ANSWERS: Readonly<Record<string, unknown>> = {
  'GET /v1/images': { images: [{ id: EVIL, names: [EVIL], created: EVIL, size: 1 }] },
  'GET /v1/images/y': {
    id: EVIL,
    names: [EVIL],
    config: { env: [EVIL], volumes: [EVIL], exposedPorts: [EVIL], labels: { [EVIL]: EVIL } },
    layers: [{ digest: EVIL }],
    history: [{ createdBy: EVIL, comment: EVIL }],
  },
  'DELETE /v1/images/x': { untagged: [EVIL], deleted: [EVIL] },
  'POST /v1/images/x/mount': { path: EVIL },
  'GET /v1/images/x/files': { self: { ...file, type: 'directory' }, total: 1, files: [file] },
  'GET /v1/images/x/history': {
    steps: [{ createdBy: EVIL, comment: EVIL, created: EVIL, layer: { diffId: EVIL, files: tally, whiteouts: 1 } }],
  },
  'GET /v1/images/x/diff': {
    added: tally,
    changed: tally,
    removed: tally,
    unread: tally,
    changes: [{ path: EVIL, kind: 'changed', type: 'file', before: 1, after: 2, aspects: [EVIL] }],
  },
  'POST /v1/images': loaded,
  'GET /v1/containers': { containers: [container] },
  'POST /v1/containers': container,
  'GET /v1/containers/x': container,
  'POST /v1/containers/x/start': container,
  'POST /v1/containers/prune': { containers: [{ id: EVIL, bytes: 1 }], absent: [{ node: EVIL, reason: EVIL }] },
  'POST /v1/gc': collected,
  'GET /v1/jobs': { jobs: [job] },
  'GET /v1/nodes': { nodes: [nodeView] },
  'GET /v1/system/df': { images: kinds, containers: kinds, layers: kinds, nodes: [{ node: EVIL, answers: false }] },
  'GET /v1/info': {
    version: EVIL,
    images: 1,
    containers: { running: 1, exited: 1, created: 1, unknown: 1 },
    nodes: [nodeView],
  },
  'GET /v1/repositories': { repositories: [{ name: EVIL }] },
  'GET /v1/repositories/x/tags': { repository: EVIL, tags: [{ name: EVIL }] },
  'GET /v1/manifests/x': { mediaType: EVIL, manifests: [{ digest: EVIL, mediaType: EVIL, platform: { os: EVIL } }] },
  'GET /v1/manifests/x/referrers': {
    subject: EVIL,
    referrers: [{ digest: EVIL, mediaType: EVIL, size: 1, artifactType: EVIL, annotations: { [EVIL]: EVIL } }],
  },
  'GET /v1/version': { version: EVIL, api: EVIL, node: EVIL },
}

/** By command: how it is called; null for those that ask no service for text. */
const CALLS: Readonly<Record<string, readonly string[][] | null>> = {
  images: [[], ['-q'], ['--format', 'json']],
  tag: [['x', 'y']],
  rmi: [['x']],
  mount: [['x']],
  umount: [['x']],
  inspect: [['x'], ['y'], ['y', '--format', '{{.}}']],
  history: [['x'], ['x', '--no-trunc'], ['x', '--format', 'json']],
  ls: [['x'], ['x', '-l'], ['x', '--format', 'json']],
  diff: [
    ['x', 'y'],
    ['x', 'y', '--format', 'json'],
  ],
  load: [[], ['-q']],
  import: [['-', 'x']],
  pull: [['x'], ['-q', 'x']],
  login: null,
  logout: null,
  ps: [['-a'], ['-q'], ['--format', 'json']],
  run: [['-d', 'x']],
  create: [['x']],
  start: [['x'], ['-a', 'x']],
  wait: [['x']],
  stop: [['x']],
  kill: [['x']],
  rm: [['x']],
  jobs: [[], ['-q'], ['--format', 'json']],
  info: [[], ['--format', 'json']],
  version: [[], ['--format', 'json']],
  'node ls': [[], ['-q'], ['--format', 'json']],
  'node rm': [['x']],
  repos: [[], ['-q'], ['--format', 'json']],
  tags: [['x'], ['x', '-q'], ['x', '--format', 'json']],
  referrers: [['x'], ['x', '-q'], ['x', '--format', '{{.Annotations}}']],
  'manifest inspect': [['x', '-v']],
  'system df': [[], ['--format', 'json']],
  'system prune': [['-f'], ['--dry-run']],
  logs: [['x']],
  save: [['x']],
  export: [['x']],
  cat: [['x', '/']],
  up: null,
  down: null,
  gateway: null,
  ingest: null,
  extractor: null,
  storage: null,
  runtime: null,
}
/** Whose answer is bytes, and goes out as it is: only their errors are text. */
const RAW = ['logs', 'save', 'export', 'cat']

describe('a hostile service', () => {
  let service: ServiceDouble
  let isFailing = false
  beforeAll(async () => {
    service = await ServiceDouble.start()
    service.otherwise(({ method, url }, response) => {
      const answer = ANSWERS[`${method} ${url.split('?')[0]}`]
      if (isFailing || answer === undefined) sendProblem(response, 400, isFailing ? EVIL : 'not_found', EVIL)
      else sendJson(response, 200, answer)
    })
  })
  afterAll(() => service[Symbol.asyncDispose]())

  it('has every command here', () => {
    const program = createProgram({ environment: {}, client: () => expect.unreachable() })
    const names = program.commands.flatMap((command) =>
      command.commands.length > 0
        ? command.commands.map((part) => `${command.name()} ${part.name()}`)
        : [command.name()],
    )
    expect(Object.keys(CALLS).sort()).toEqual(names.sort())
  })

  const calls = Object.entries(CALLS).flatMap(([name, all]) =>
    (all ?? []).map((words) => [...name.split(' '), ...words]),
  )

  it.each(calls.filter(([name]) => !RAW.includes(name!)).map((words) => [words.join(' '), words] as const))(
    'says nothing that a terminal obeys: strata %s',
    async (_, words) => {
      isFailing = false
      const { stdout, stderr } = await strata(service, words, { input: 'x' })
      expect(stdout).not.toMatch(OBEYED)
      expect(stderr).not.toMatch(OBEYED)
    },
  )

  it.each(calls.map((words) => [words.join(' '), words] as const))(
    'refuses with nothing that a terminal obeys: strata %s',
    async (_, words) => {
      isFailing = true
      const { stdout, stderr } = await strata(service, words, { input: 'x' })
      expect(stderr).toContain(String.raw`\u009b31m`)
      expect(stdout + stderr).not.toMatch(OBEYED)
    },
  )

  it('the output of a container is its own', async () => {
    service.on('GET /v1/containers/x/logs', (_seen, response) => response.end(frame(1, EVIL)))
    expect((await strata(service, ['logs', 'x'])).stdout).toBe(EVIL)
  })
})
