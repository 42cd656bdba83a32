import { randomInt, randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { archiveOf, ownLayer, packed, type PackedLayer } from './testing/images.js'
import { SERVICES, type World } from './testing/world.js'

const CLIENTS = 8
const LAYERS = 12
const NAMES = 16
const LOOKS = 10
/** How long a client of services that die waits for an answer. */
const PATIENCE_MS = 5_000

/** What was done, how often; and each thing that was found wrong while it was done. */
export interface Churned {
  readonly done: Readonly<Record<string, number>>
  readonly problems: readonly string[]
}

/**
 * Eight clients load, tag, look at, launch, remove and collect at random, images that share their
 * layers, until the time is over or something is wrong. An image that is listed must have all of
 * its blobs. It may be removed and loaded again between two questions, so it counts as lacking when
 * it is found so again and again, and listed each time: what is lost stays lost. At the end all is
 * collected once more.
 */
export async function churn(world: World, minutes: number): Promise<Churned> {
  const layers: PackedLayer[] = await Promise.all(
    Array.from({ length: LAYERS }, async () => packed(await ownLayer(20_000))),
  )
  const end = performance.now() + minutes * 60_000
  const done: Record<string, number> = {}
  const problems: string[] = []
  const name = (): string => `c/image-${randomInt(NAMES)}`
  const path = (image: string): string => `/v1/images/${encodeURIComponent(image)}`
  const { strata } = world

  const acts: Readonly<
    Record<
      string,
      {
        readonly weight: number
        readonly fine: readonly number[]
        readonly act: () => Promise<{ status: number; bytes: Buffer }>
      }
    >
  > = {
    load: {
      weight: 6,
      fine: [201],
      act: async () =>
        world.load(
          await archiveOf(
            [name()],
            Array.from({ length: randomInt(1, 4) }, () => layers[randomInt(LAYERS)]!),
          ),
          randomUUID(),
          randomInt(3) > 0 ? '&prepare=false' : '',
        ),
    },
    tag: {
      weight: 1,
      fine: [200, 201, 204, 404],
      act: () => strata.request('POST', `${path(name())}/tag`, { name: name() }),
    },
    remove: {
      weight: 7,
      fine: [200, 404, 409],
      // One of all there are, so also what lost its name to another; and a little more often than
      // one comes: else there would be more and more of them, and each layer always in use.
      act: async () => {
        const images = await strata.images()
        return strata.request('DELETE', `${path(images[randomInt(images.length + 1)]?.digest ?? name())}?force`)
      },
    },
    collect: { weight: 1, fine: [200], act: () => strata.request('POST', '/v1/gc') },
    run: {
      weight: 1,
      fine: [201, 404],
      act: async () => {
        const answer = await strata.request('POST', '/v1/containers', { image: name(), command: ['true'] })
        if (answer.status !== 201) return answer
        const { id } = answer.json<{ id: string }>()
        await strata.request('POST', `/v1/containers/${id}/wait`)
        await strata.request('DELETE', `/v1/containers/${id}`)
        return answer
      },
    },
    look: {
      weight: 3,
      fine: [200, 404],
      act: async () => {
        const [image] = (await strata.images()).sort(() => Math.random() - 0.5)
        if (!image) return strata.request('GET', '/v1/images')
        let lacking = ['not looked yet']
        let look = 0
        for (
          ;
          look < LOOKS && lacking.length > 0 && (await strata.images()).some(({ digest }) => digest === image.digest);
          look++
        ) {
          lacking = await world.checker.lacking(image.digest).catch((error: unknown) => [String(error)])
        }
        if (lacking.length > 0 && look === LOOKS)
          problems.push(`${image.digest} is listed and not whole: ${lacking.join(', ')}`)
        return strata.request('GET', '/v1/images')
      },
    },
  }
  const bag = Object.entries(acts).flatMap(([what, { weight }]) => Array.from({ length: weight }, () => what))

  const client = async (): Promise<void> => {
    while (performance.now() < end && problems.length === 0) {
      const what = bag[randomInt(bag.length)]!
      const { act, fine } = acts[what]!
      const { status, bytes } = await act()
      done[what] = (done[what] ?? 0) + 1
      if (!fine.includes(status)) problems.push(`${what}: ${status} ${bytes.toString().slice(0, 500)}`)
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, client))
  return { done, problems }
}

export interface Killed {
  readonly done: Readonly<Record<string, number>>
  readonly deaths: Readonly<Record<string, number>>
  /** Of containers: those whose process ran more than once. */
  readonly twice: readonly string[]
}

/**
 * Services chosen at random are killed, and started again, every few seconds, while clients load,
 * launch, remove and collect. What they are answered does not matter, for whom they ask may die:
 * what is there in the end does.
 */
export async function killAtRandom(world: World, minutes: number): Promise<Killed> {
  const end = performance.now() + minutes * 60_000
  const done: Record<string, number> = {}
  const deaths: Record<string, number> = {}
  const tokens: string[] = []
  const { strata, witness } = world
  await world.load(await archiveOf(['c/base']), randomUUID())
  const name = (): string => `c/image-${randomInt(NAMES)}`
  const acts: Readonly<Record<string, () => Promise<{ status: number }>>> = {
    load: async () => world.load(await archiveOf([name()]), randomUUID()),
    launch: async () => {
      const { token, body } = witness.container('c/base')
      tokens.push(token)
      return strata.request('POST', '/v1/containers', body)
    },
    'remove image': () => strata.request('DELETE', `/v1/images/${encodeURIComponent(name())}?force`),
    'remove container': async () => {
      const [container] = (await strata.containers()).filter(({ state }) => state === 'exited')
      return container ? strata.request('DELETE', `/v1/containers/${container.id}`) : { status: 404 }
    },
    collect: () => strata.request('POST', '/v1/gc'),
  }
  const client = async (): Promise<void> => {
    while (performance.now() < end) {
      const [what, act] = Object.entries(acts)[randomInt(Object.keys(acts).length)]!
      // A request whose service died may be answered when its job was run again, or never: others
      // go on meanwhile.
      const answered = await Promise.race([
        act().then(
          ({ status }) => status < 500,
          () => false,
        ),
        delay(PATIENCE_MS, false),
      ])
      if (answered) done[what] = (done[what] ?? 0) + 1
      else await delay(100)
    }
  }
  const killer = async (): Promise<void> => {
    while (performance.now() < end) {
      await delay(randomInt(500, 5_000))
      const service = SERVICES[randomInt(SERVICES.length)]!
      await world.kill(service)
      deaths[service] = (deaths[service] ?? 0) + 1
    }
  }
  await Promise.all([...Array.from({ length: 4 }, client), killer()])
  await strata.ready()
  return { done, deaths, twice: tokens.filter((token) => witness.times(token) > 1) }
}
