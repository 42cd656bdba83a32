import type { ContainerList, ContainerView, ListContainers } from '@strata/api'
import { StrataError } from '@strata/base'
import type { NodeDirectory, NodeRecord } from '@strata/queue'
import { expect, it } from 'vitest'
import { ContainerDirectory } from './container-directory.js'
import type { NodeApiClient } from './node-api-client.js'

const here = new AbortController().signal
const idOf = (number: number): string => number.toString(16).padStart(64, '0')
const container = (number: number, node: string, state: ContainerView['state'] = 'running'): ContainerView => ({
  id: idOf(number),
  name: `c${number}`,
  image: 'box',
  imageId: `sha256:${idOf(1)}` as ContainerView['imageId'],
  node,
  command: [],
  state,
  createdAt: new Date(number).toISOString(),
  autoRemove: false,
  network: 'none',
})

/** Nodes as Redis and their APIs show them. `silent` does not answer, `gone` is not registered. */
class Nodes {
  asked = 0
  /** Containers that were read from Redis. */
  read = 0
  readonly directory: ContainerDirectory

  constructor(private readonly nodes: Readonly<Record<string, readonly ContainerView[]>>) {
    this.directory = new ContainerDirectory(
      {
        list: () => Promise.resolve(this.#alive().map((id) => ({ id }) as NodeRecord)),
        known: () => Promise.resolve(Object.keys(nodes)),
        containerIds: (node: string) => Promise.resolve(nodes[node]!.map(({ id }) => id)),
        publishedOf: (node: string, ids: readonly string[]) => {
          this.read += ids.length
          return Promise.resolve(nodes[node]!.filter(({ id }) => ids.includes(id)))
        },
        publishedById: (id: string) => Promise.resolve(this.#all().find((one) => one.id === id)),
        claimantOf: (name: string) => Promise.resolve(this.#all().find((one) => one.name === name)?.id),
      } as unknown as NodeDirectory,
      { call: this.#call.bind(this) } as unknown as NodeApiClient,
    )
  }

  #all(): ContainerView[] {
    return Object.values(this.nodes).flat()
  }

  #alive(): string[] {
    return Object.keys(this.nodes).filter((id) => !id.startsWith('gone'))
  }

  /** At most two containers in each answer: a node may give fewer than it was asked for. */
  #call({ id }: NodeRecord, _: string, { query }: { query: ListContainers }): Promise<ContainerList> {
    this.asked++
    if (id.startsWith('silent')) return Promise.reject(new StrataError('node_unavailable', `${id} is silent`))
    const { all, limit, after = '' } = query
    const behind = this.nodes[id]!.filter((one) => one.id > after && (all || one.state === 'running'))
    const containers = behind.slice(0, Math.min(limit, 2))
    return Promise.resolve({
      containers,
      ...(behind.length > containers.length ? { next: containers.at(-1)!.id } : {}),
    })
  }
}

/** Containers 0, 1, 2, … spread over nodes that answer, are silent and are gone. */
function spread(count: number, state: (number: number) => ContainerView['state'] = () => 'running'): Nodes {
  const ids = ['a', 'b', 'silent', 'gone']
  return new Nodes(
    Object.fromEntries(
      ids.map((node, at) => [
        node,
        Array.from({ length: count }, (_, number) => number)
          .filter((number) => (number * 7) % ids.length === at)
          .map((number) => container(number, node, state(number))),
      ]),
    ),
  )
}

async function pagesOf({ directory }: Nodes, query: { all: boolean; limit: number }): Promise<ContainerView[][]> {
  const pages: ContainerView[][] = []
  let after: string | undefined
  do {
    const page = await directory.page({ ...query, after }, here)
    pages.push([...page.items])
    after = page.next
  } while (after !== undefined)
  return pages
}

it.each([1, 2, 3, 7, 1_000])(
  'pages of %d have each container of every node once, in the order of the ids',
  async (limit) => {
    const pages = await pagesOf(spread(50), { all: true, limit })
    expect(pages.every((page) => page.length <= limit)).toBe(true)
    expect(pages.flat().map(({ id }) => id)).toEqual(Array.from({ length: 50 }, (_, number) => idOf(number)))
  },
)

it('without `all` pages have those that run, and those of gone nodes that may run', async () => {
  const pages = await pagesOf(
    spread(50, (number) => (number % 3 === 0 ? 'exited' : 'running')),
    { all: false, limit: 4 },
  )
  const shown = pages.flat()
  expect(shown.map(({ id }) => id)).toEqual(
    Array.from({ length: 50 }, (_, number) => number)
      .filter((number) => number % 3 !== 0)
      .map(idOf),
  )
  for (const { node, state } of shown) expect(state).toBe(node === 'gone' ? 'unknown' : 'running')
})

it('a page reads from Redis one container more than it has, of each node that does not answer', async () => {
  const nodes = spread(4_000)
  await nodes.directory.page({ all: true, limit: 10 }, here)
  expect(nodes.read).toBe(2 * 11)
})

it('a visit gives every container once, and asks a silent node once', async () => {
  const nodes = spread(2_500)
  const seen: string[] = []
  await nodes.directory.visit(here, ({ id }) => void seen.push(id))
  expect(seen.sort()).toEqual(Array.from({ length: 2_500 }, (_, number) => idOf(number)))
  // Two in each answer.
  expect(nodes.asked).toBe(Math.ceil(625 / 2) * 2 + 1)
})

it('finds a container by its id, its name, and the unique beginning of its id', async () => {
  const one = { ...container(1, 'a'), id: 'ab'.repeat(32), name: 'cafe' }
  const other = { ...container(2, 'gone'), id: 'ac'.repeat(32), name: 'web' }
  const { directory } = new Nodes({ a: [one], gone: [other] })
  for (const text of [one.id, 'cafe', 'ab', 'abab']) expect((await directory.find(text)).id).toBe(one.id)
  for (const text of [other.id, 'web', 'ac']) expect((await directory.find(text)).id).toBe(other.id)
  await expect(directory.find('a')).rejects.toMatchObject({ code: 'container_ambiguous' })
  for (const text of ['ad', 'we', 'ab'.repeat(31) + 'ff', 'cafe1'])
    await expect(directory.find(text)).rejects.toMatchObject({ code: 'container_not_found' })
})
