import { expect, it } from 'vitest'
import { z } from 'zod'
import { CONTRACTS, QUEUE_JOBS } from './contracts.js'

const root = '7b0e1f5e-6f44-4c5b-9d0e-0f6d3a0c1b2a'
const digest = `sha256:${'a'.repeat(64)}`
const container = 'c0'.repeat(32)
/** As commit d5153a4 queued it: one step creates and starts. */
const launch = {
  container,
  name: 'n',
  imageName: 'img',
  image: { id: digest, digest, layers: [] },
  sealed: 'x',
  network: 'none',
  autoRemove: false,
  attach: false,
}

it('a launch that does not say otherwise starts its container', () => {
  expect(CONTRACTS.launch.data.parse({ root, launch }).launch.start).toBe(true)
  const place = { root, purpose: 'launch', launch }
  expect(CONTRACTS.place.data.parse(place)).toMatchObject({ launch: { start: true } })
  expect(CONTRACTS.launch.data.parse({ root, launch: { ...launch, start: false } }).launch.start).toBe(false)
})

/** The names of all that a job carries, below each other. */
function membersOf(schema: unknown, prefix = ''): string[] {
  const { properties = {}, ...others } = schema as { properties?: Record<string, unknown> }
  const here = Object.entries(properties).flatMap(([name, of]) => [
    prefix + name,
    ...membersOf(of, `${prefix}${name}.`),
  ])
  const deeper = Object.values(others)
    .flatMap((of): unknown => of)
    .filter((of) => typeof of === 'object' && of !== null)
  return [...new Set([...here, ...deeper.flatMap((of) => membersOf(of, prefix))])]
}

/**
 * A release ignores members that it does not know. If it would do something else then, it must not
 * come to the job: that is a version of Redis (redis-version.ts). So is a job, or a queue, that
 * nobody would work.
 */
it('no job gets a member, and no queue a job, without a look at the version of Redis', () => {
  const members = Object.entries(CONTRACTS).map(([name, { data }]) => {
    const schema = z.toJSONSchema(data as z.ZodType, { unrepresentable: 'any', io: 'input' })
    return [name, membersOf(schema).join(' ')]
  })
  const image = (of: string): string =>
    `${of} ${['id', 'digest', 'layers', 'layers.digest', 'layers.diffId', 'layers.size'].map((name) => `${of}.${name}`).join(' ')}`
  const spec = [
    'launch launch.container launch.name launch.imageName',
    image('launch.image'),
    'launch.sealed launch.workdir launch.user launch.hostname launch.network',
    'launch.autoRemove launch.attach launch.start',
  ].join(' ')
  expect(Object.fromEntries(members)).toEqual({
    load: 'root upload prepare name platform',
    import: 'root upload prepare name',
    pull: 'root upload reference prepare platform insecure sealed',
    extract: 'root layer layer.digest layer.diffId layer.size',
    place: `root purpose ${spec} ${image('image')}`,
    assemble: `root ${image('image')}`,
    launch: `root ${spec}`,
    start: 'root container number attach',
    sweep: '',
    'forget-node': 'node force by',
    'collect-due': '',
    collect: 'root dryRun untagged absentContainers',
    clean: 'dryRun absent absent.images absent.containers absent.indexes',
  })
  expect(QUEUE_JOBS).toEqual({
    ingest: ['load', 'import'],
    pull: ['pull'],
    extract: ['extract'],
    runtime: ['place'],
    'runtime.node': ['assemble', 'launch', 'start', 'clean'],
    'assemble.node': ['assemble'],
    storage: ['sweep', 'collect-due', 'forget-node'],
    collect: ['collect'],
  })
})

it('a start has a number, from 1 on', () => {
  const start = { root, container, number: 1, attach: false }
  expect(CONTRACTS.start.data.parse(start)).toEqual(start)
  for (const number of [0, -1, 1.5, '1'])
    expect(CONTRACTS.start.data.safeParse({ ...start, number }).success).toBe(false)
})
