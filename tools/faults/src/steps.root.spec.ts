import { randomUUID } from 'node:crypto'
import type { Answer, Service } from '@strata/e2e/testing'
import type { Failpoint } from '@strata/base'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { onEachStore, triesAll } from './testing/each-store.js'
import { archiveOf } from './testing/images.js'
import { World } from './testing/world.js'

/** What must be so in the end: the problems that are left, none when all is well. */
type Expected = () => Promise<readonly string[]>

const problem = (is: boolean, what: string): readonly string[] => (is ? [] : [what])

/**
 * The steps between which a bucket is written to and deleted from, one of each service that does so
 * (`triesAll`). The gateway's death in the middle of a body is the storage service's test.
 */
const OF_A_BUCKET: ReadonlySet<Failpoint> = new Set<Failpoint>([
  'load.received',
  'load.name-set',
  'extract.index-kept',
  'collect.tombstoned',
  'collect.bytes-deleted',
])

onEachStore('on %s, a service that is killed at', (store) => {
  let world: World
  beforeAll(async () => {
    world = await World.start(store)
    expect((await world.load(await archiveOf(['t/base']), randomUUID())).status).toBe(201)
  })
  afterAll(async () => {
    world.report()
    await world.dispose()
  })

  const tried = (steps: readonly Failpoint[]): readonly Failpoint[] =>
    steps.filter((step) => triesAll(store) || OF_A_BUCKET.has(step))

  /**
   * A load each, one killed after the other. `interrupted`: its gateway died before all bytes were
   * in, so it ends; else it goes on and ends well.
   */
  async function loads(
    service: Service,
    all: readonly Failpoint[],
    interrupted: readonly Failpoint[] = [],
  ): Promise<void> {
    const steps = tried(all)
    const expected: Expected[] = []
    for (const step of steps) {
      const [name, job] = [`t/${step.replace('.', '-')}`, randomUUID()]
      const archive = await archiveOf([name])
      await world.killAt(service, step, () => world.load(archive, job))
      expected.push(async () => {
        const { state, error } = await world.job(job)
        const listed = (await world.names()).includes(`${name}:latest`)
        if (interrupted.includes(step))
          return problem(
            state === 'failed' && error?.code === 'upload_interrupted' && !listed,
            `the load killed at ${step} is ${state}, ${error?.code ?? 'without error'}, ${listed ? 'listed' : 'not listed'}`,
          )
        return problem(
          state === 'completed' && listed,
          `the load killed at ${step} is ${state} ${error?.message ?? ''}, ${listed ? 'listed' : 'not listed'}`,
        )
      })
    }
    await world.right(`${service} killed at ${steps.length} steps of load`, async () =>
      (await Promise.all(expected.map((one) => one()))).flat(),
    )
    expect(await world.notLaunchable(await world.names())).toEqual([])
  }

  it('the steps of load: gateway', async () => {
    await loads(
      'gateway',
      ['load.journal-made', 'load.upload-made', 'load.first-bytes', 'load.received', 'load.queued'],
      ['load.journal-made', 'load.upload-made', 'load.first-bytes'],
    )
  })

  it('the steps of load: ingest', async () => {
    await loads('ingest', [
      'load.listed',
      'load.blobs-committed',
      'load.children-added',
      'load.committing',
      'load.manifest-written',
      'load.name-set',
      'load.named',
      'load.completed',
      'load.upload-ended',
    ])
  })

  it('the step of load: storage, which ends what a dead gateway left', async () => {
    const job = randomUUID()
    const archive = await archiveOf(['t/abandoned'])
    await world.killAt('storage', 'load.abandoned', () =>
      world.killAt('gateway', 'load.first-bytes', () => world.load(archive, job)),
    )
    await world.right('storage killed when it had ended an upload', async () =>
      problem((await world.job(job)).error?.code === 'upload_interrupted', 'the load has not ended as interrupted'),
    )
  })

  it('the steps of load: extractor', async () => {
    await loads('extractor', [
      'extract.fetched',
      'extract.index-kept',
      'extract.proven',
      'extract.renaming',
      'extract.renamed',
    ])
  })

  it('the steps of a collection: nothing that is needed goes, and in the end nothing else stays', async () => {
    const lost = randomUUID()
    await world.killAt('gateway', 'collect.journal-made', () => world.strata.request('POST', `/v1/gc?job=${lost}`))
    const steps = tried([
      'collect.blobs-listed',
      'collect.uploads-listed',
      'collect.references-read',
      'collect.tombstoned',
      'collect.bytes-deleted',
      'clean.root-removed',
      'clean.layer-removed',
    ])
    const jobs: string[] = []
    for (const step of steps) {
      const [name, job] = [`t/${step.replace('.', '-')}`, randomUUID()]
      expect((await world.load(await archiveOf([name]), randomUUID())).status).toBe(201)
      // The order first: the collection before this one, which is run again, may come to what is
      // removed here.
      await world.killAt(step.startsWith('clean') ? 'runtime' : 'storage', step, async () => {
        await world.strata.request('DELETE', `/v1/images/${encodeURIComponent(name)}`)
        await world.strata.request('POST', `/v1/gc?job=${job}`)
      })
      jobs.push(job)
    }
    await world.right(`gateway, storage and runtime killed at ${steps.length + 1} steps of a collection`, async () => [
      ...(await Promise.all(jobs.map(async (job) => (await world.job(job)).state))).flatMap((state) =>
        problem(state === 'completed', `a collection is ${state}`),
      ),
      ...problem(
        (await world.job(lost)).error?.code === 'queue_unavailable',
        'the collection that was not queued has not ended so',
      ),
    ])
    expect((await world.strata.request('POST', '/v1/gc')).status).toBe(200)
    expect(await world.checker.unreachable()).toEqual([])
    await world.right('the collection after that')
    expect(await world.notLaunchable(['t/base'])).toEqual([])
  })

  if (!triesAll(store)) return

  it('the steps of load: the root made by runtime', async () => {
    await loads('runtime', ['assemble.made', 'assemble.committed'])
  })

  it('the steps of removing an image: what was begun is finished by asking again', async () => {
    const tags = ['t/two:1', 't/two:2', 't/two:3']
    const { images } = (await world.load(await archiveOf(tags), randomUUID())).json<{ images: { id: string }[] }>()
    const remove = () => world.strata.request('DELETE', `/v1/images/${encodeURIComponent(images[0]!.id)}?force`)
    await world.killAt('gateway', 'remove.name-retired', remove)
    await world.right('gateway killed in the removal of an image')
    expect((await world.names()).filter((name) => tags.includes(name)).length).toBe(2)
    expect((await remove()).status).toBe(200)
    await world.right('the same removal, again', async () =>
      problem(!(await world.names()).some((name) => tags.includes(name)), 'a name of the image is still there'),
    )
  })

  it('the steps of launch: every process runs once', async () => {
    const steps: Failpoint[] = [
      'launch.claimed',
      'launch.recorded',
      'launch.placed',
      'launch.numbered',
      'launch.prepared',
      'launch.created',
      'launch.started',
      'launch.running-recorded',
      'launch.exit-recorded',
      'launch.cleaned',
    ]
    const expected: Expected[] = []
    for (const step of steps) {
      const { token, body } = world.witness.container('t/base')
      const job = randomUUID()
      await world.killAt('runtime', step, () =>
        world.strata.request('POST', `/v1/containers?job=${job}`, { ...body, name: step }),
      )
      expected.push(async () => {
        const container = await world.container(step)
        const times = world.witness.times(token)
        return problem(
          container?.state === 'exited' && container.exitCode === 0 && times === 1,
          `the launch killed at ${step} is ${container?.state ?? 'not there'} ${container?.exitCode ?? ''} ${container?.reason ?? ''}, and ran ${times} times`,
        )
      })
    }
    // A root that nothing has to outlive is mounted again all the same.
    const { token, body } = world.witness.container('t/base')
    await world.killAt('runtime', 'launch.prepared', () =>
      world.strata.request('POST', '/v1/containers', { ...body, name: 'passing', autoRemove: true }),
    )
    expected.push(async () => {
      const container = await world.container('passing')
      const times = world.witness.times(token)
      return problem(
        container === undefined && times === 1,
        `the launch with --rm is ${container?.state ?? 'over'}, and ran ${times} times`,
      )
    })
    await world.right(`runtime killed at ${steps.length + 1} steps of launch`, async () =>
      (await Promise.all(expected.map((one) => one()))).flat(),
    )
  })

  it('the steps of create and of start: what was created waits, and every start runs once', async () => {
    const { witness, checker } = world
    const request = (path: string, body?: object) => world.strata.request('POST', `/v1/containers${path}`, body)
    const create = (name: string, more: object = {}) => {
      const { token, body } = witness.container('t/base')
      return { token, asked: () => request('?start=false', { ...body, ...more, name }) }
    }
    // Each dies while it is created; then the job is taken up again, and it waits.
    // A claim is the same for both; what is recorded from then on is not.
    const creating: Failpoint[] = ['launch.recorded', 'launch.placed', 'create.recorded']
    const tokens = new Map<string, string>()
    for (const step of creating) {
      const name = `create-${step}`
      checker.created.add(name)
      const { token, asked } = create(name, step === 'create.recorded' ? { autoRemove: true } : {})
      tokens.set(name, token)
      await world.killAt('runtime', step, asked)
    }
    await world.right(`runtime killed at ${creating.length} steps of create`, async () =>
      (
        await Promise.all(
          [...tokens].map(async ([name, token]) => {
            const state = (await world.container(name))?.state
            return problem(state === 'created' && witness.times(token) === 0, `${name} is ${state ?? 'not there'}`)
          }),
        )
      ).flat(),
    )
    for (const name of tokens.keys()) expect((await request(`/${name}/start`)).status, name).toBe(200)
    checker.created.clear()

    // From the number on it is started as a launch is, which is tried at every step. What differs
    // is what the job finds when it is taken up again: one state of the record each.
    const starting: Failpoint[] = [
      'start.bound',
      'launch.numbered',
      'launch.started',
      'launch.running-recorded',
      'launch.exit-recorded',
    ]
    for (const step of starting) {
      const name = `start-${step}`
      const { token, asked } = create(name)
      tokens.set(name, token)
      expect((await asked()).status).toBe(201)
      let begun: Promise<Answer> | undefined
      await world.killAt('runtime', step, () => (begun = request(`/${name}/start?wait=false`)))
      // A start before this one, which is run again, may have come to the step first: then the node
      // died before the gateway had asked it about this container, and nothing was queued.
      const { status } = (await begun) ?? {}
      if (status !== 202) expect([status, (await request(`/${name}/start`)).status]).toEqual([503, 200])
    }
    await world.right(`runtime killed at ${starting.length} steps of start`, async () =>
      (
        await Promise.all(
          [...tokens].map(async ([name, token]) => {
            const [container, times] = [await world.container(name), witness.times(token)]
            const isOver = name === 'create-create.recorded' ? !container : container?.exitCode === 0
            return problem(
              isOver && times === 1,
              `${name} is ${container?.state ?? 'not there'} ${container?.reason ?? ''}, and ran ${times} times`,
            )
          }),
        )
      ).flat(),
    )
    // What has exited is started again, killed at any step.
    await world.killAt('runtime', 'launch.created', () => request('/start-launch.numbered/start'))
    await world.right('runtime killed in a second start', () =>
      Promise.resolve(problem(witness.times(tokens.get('start-launch.numbered') ?? '') === 2, 'it has not run again')),
    )

    // In the gateway: what was not queued is given up, and the container waits on.
    const [lost, lives, job] = [create('start-lost'), create('start-lives'), randomUUID()]
    for (const { asked } of [lost, lives]) expect((await asked()).status).toBe(201)
    checker.created.add('start-lost')
    await world.killAt('gateway', 'start.journal-made', () => request(`/start-lost/start?job=${job}`))
    await world.killAt('gateway', 'start.queued', () => request('/start-lives/start'))
    await world.right('gateway killed at 2 steps of start', async () => [
      ...problem((await world.job(job)).error?.code === 'queue_unavailable', 'the start that was not queued goes on'),
      ...problem((await world.container('start-lost'))?.state === 'created', 'its container does not wait'),
      ...problem(witness.times(lost.token) === 0 && witness.times(lives.token) === 1, 'they ran as they should not'),
    ])
    expect((await create('start-lost').asked()).json()).toMatchObject({ code: 'container_exists' })
    expect((await request('/start-lost/start')).status).toBe(200)
    checker.created.clear()
  })

  it('the steps of launch in the gateway: what was not queued is given up, and its name is free', async () => {
    const [lost, lives] = [world.witness.container('t/base'), world.witness.container('t/base')]
    const job = randomUUID()
    const launch = (body: object, query = '') => world.strata.request('POST', `/v1/containers${query}`, body)
    await world.killAt('gateway', 'launch.name-claimed', () => launch({ ...lost.body, name: 'lost' }, `?job=${job}`))
    await world.killAt('gateway', 'launch.queued', () => launch({ ...lives.body, name: 'lives' }))
    await world.right('gateway killed at 2 steps of launch', async () => {
      const [ended, container, times] = [
        await world.job(job),
        await world.container('lives'),
        world.witness.times(lives.token),
      ]
      return [
        ...problem(
          ended.state === 'failed' &&
            ended.error?.code === 'queue_unavailable' &&
            world.witness.times(lost.token) === 0,
          `the launch that was not queued is ${ended.state}`,
        ),
        ...problem(
          container?.state === 'exited' && container.exitCode === 0 && times === 1,
          `the launch that was queued is ${container?.state ?? 'not there'}, and ran ${times} times`,
        ),
      ]
    })
    expect((await launch({ image: 't/base', name: 'lost', command: ['true'] })).status).toBe(201)
  })

  it('the steps of removing a container', async () => {
    const steps: Failpoint[] = ['remove.container-buried', 'remove.root-removed', 'remove.record-dropped']
    for (const step of steps) {
      const made = await world.strata.request('POST', '/v1/containers', {
        image: 't/base',
        name: step,
        command: ['sleep', '1000'],
      })
      expect(made.status, made.bytes.toString()).toBe(201)
      await world.killAt('runtime', step, () => world.strata.request('DELETE', `/v1/containers/${step}?force`))
    }
    await world.right(`runtime killed at ${steps.length} steps of removing a container`, async () =>
      (
        await Promise.all(
          steps.map(async (step) =>
            problem(
              (await world.container(step)) === undefined,
              `the container whose removal was killed at ${step} is still there`,
            ),
          ),
        )
      ).flat(),
    )
  })
})
