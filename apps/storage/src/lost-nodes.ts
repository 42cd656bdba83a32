import { setTimeout as delay } from 'node:timers/promises'
import { SingleFlightByKey, StrataError } from '@strata/base'
import {
  placeElsewhere,
  QUEUES,
  whyNoNode,
  type Handlers,
  type JobData,
  type JobLock,
  type JobResult,
  type NodePart,
  type NodeStatus,
  type QueueClient,
  type QueueKind,
} from '@strata/queue'
import type { RemovedNodes } from '@strata/store'
import { z } from 'zod'

/** What counts here of a container that a node has published. */
const publishedSchema = z.object({
  id: z.string(),
  name: z.string(),
  state: z.string(),
  waits: z.boolean().optional(),
})
const NOT_UNDERSTOOD: z.infer<typeof publishedSchema> = { id: '', name: 'one that is not understood', state: '' }

/**
 * One look is not enough: while Redis was away no node could say that it lives. Who is missed at so
 * many looks of this process in a row has had its chance, since nodes renew more often than one
 * looks.
 */
const LOOKS = 3
/**
 * For how long there must be no node at all before requests that wait for one are ended: a node
 * that is started again is back by then.
 */
const NO_NODE_MS = 10_000
/** A drain ends after so long whatever is left; the next look begins another. */
const DRAIN_MS = 30_000
const DRAIN_POLL_MS = 250

/** A queue that nobody works, and how its jobs end. */
interface Orphan {
  readonly queue: string
  /**
   * Works the queue until it is told to stop. A job is given back when it is taken and `isDue` says
   * that others work the queue again.
   */
  serve(isDue: () => Promise<boolean>): { stop(): Promise<void> }
}

/**
 * Ends the jobs of nodes that are gone, and those that wait for a node where there is none. Any
 * number of storage services may do it at once, and the node may come back at any moment: each
 * takes jobs from the node's queues as a worker does, so a job is ended here or done there, and
 * never both. A job that is taken when the node is back already is given back to it.
 *
 * | job | of a part that has been silent for STRATA_NODE_LOST_MS |
 * | --- | --- |
 * | `launch` | fails with `node_unavailable`: it may have started, so it is never started elsewhere |
 * | `start` | the same. Its container is the node's own, and keeps its name |
 * | `assemble` for a load | is given to another node (`placeElsewhere`); for anyone else it fails |
 * | `extract` on the node's own queue | ends as not made; whoever waited for it sees that the layer is not there |
 * | `clean` | fails: that node does its part at a later collection |
 *
 * Where no node is ready at all (10 s), `place` fails, and `extract` where no extractor lives: with
 * a sentence that says what is missing, instead of a wait without a word.
 */
export class LostNodes {
  /**
   * What was missed at the last looks in a row: how often, and since when by this process' clock.
   */
  readonly #missed = new Map<string, { looks: number; since: number }>()
  readonly #draining = new SingleFlightByKey<string, void>()
  readonly #closing = new AbortController()

  constructor(
    private readonly queue: QueueClient,
    private readonly removed: RemovedNodes,
    private readonly lostMs: number,
    private readonly onError: (error: Error) => void,
  ) {}

  /** To be called at regular times. What it begins goes on behind it. */
  async look(): Promise<void> {
    const statuses = await this.queue.nodes.statuses()
    const missing = new Set<string>()
    const due = (what: string, silentMs: number | undefined, patienceMs: number): boolean => {
      missing.add(what)
      const seen = this.#missed.get(what) ?? { looks: 0, since: performance.now() }
      this.#missed.set(what, { ...seen, looks: seen.looks + 1 })
      return seen.looks + 1 >= LOOKS && (silentMs ?? performance.now() - seen.since) >= patienceMs
    }
    for (const node of statuses) {
      for (const part of ['runtime', 'extractor'] as const) {
        if (node[part].lives || !due(`${node.id}/${part}`, node[part].silentMs, this.lostMs)) continue
        for (const orphan of this.#orphans(node, part)) this.#begin(orphan, () => this.#isSilent(node.id, part))
      }
    }
    if (!statuses.some(isReady) && due('no node', undefined, NO_NODE_MS))
      this.#begin(this.#unplaced(), async () => !(await this.queue.nodes.statuses()).some(isReady))
    if (!statuses.some(canExtract) && due('no extractor', undefined, NO_NODE_MS))
      this.#begin(this.#unextracted(), async () => !(await this.queue.nodes.statuses()).some(canExtract))
    for (const what of this.#missed.keys()) if (!missing.has(what)) this.#missed.delete(what)
  }

  /**
   * Forgets a node that is gone for good: it is noted in the store, so that it cannot come back by
   * itself, its jobs end, and its containers, their names and its queues are free. Killed at any
   * line it is begun again by the same job.
   * @throws StrataError `node_not_found`; `node_in_use` where it lives, or, without `force`, may
   * have containers that run
   */
  async forget({ node: id, force, by }: JobData<'forget-node'>): Promise<JobResult<'forget-node'>> {
    const node = (await this.queue.nodes.statuses()).find((one) => one.id === id)
    if (!node) {
      // An earlier run of this job has done it.
      if ((await this.removed.find(id))?.by === by) return { node: id }
      throw new StrataError('node_not_found', `no such node: ${id}`)
    }
    await this.#refuseLiving(node)
    const containers = (await this.queue.nodes.published(id))
      // One that is not understood may run.
      .map((view) => publishedSchema.safeParse(view).data ?? NOT_UNDERSTOOD)
      .filter(({ state, waits }) => state !== 'exited' && !waits)
    if (!force && containers.length > 0) {
      throw new StrataError(
        'node_in_use',
        `the node ${id} is gone, and had ${containers.length} containers that may still be running there (${namesOf(containers)}): start it again, or remove it with them by --force`,
      )
    }
    await this.removed.add(id, { by, removedAt: new Date().toISOString() })
    // A node that starts registers first and then looks for that note: one of the two sees the
    // other.
    await this.#refuseLiving(node).catch(async (error: unknown) => {
      await this.removed.clear(id, by)
      throw error
    })
    const orphans = [...this.#orphans(node, 'runtime'), ...this.#orphans(node, 'extractor')]
    for (const orphan of orphans) {
      await this.#drain(orphan, () => Promise.resolve(true))
      if ((await this.queue.producer.unfinished(orphan.queue)) > 0)
        throw new StrataError(
          'queue_unavailable',
          `the jobs of the node ${id} have not ended yet: ask again in a moment`,
        )
    }
    await this.queue.nodes.forget(id)
    for (const { queue } of orphans) await this.queue.producer.removeQueue(queue)
    return { node: id }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#draining.settled()
  }

  async #refuseLiving({ id, host, state }: NodeStatus): Promise<void> {
    if (state === 'gone' && !(await this.queue.nodes.isOwned(id))) return
    throw new StrataError(
      'node_in_use',
      `the node ${id} is running${onHost(host)}, also --force does not remove it: stop its runtime and its extractor first (strata down). One that has died counts as running for 15 s`,
    )
  }

  async #isSilent(id: string, part: NodePart): Promise<boolean> {
    const node = (await this.queue.nodes.statuses()).find((one) => one.id === id)
    return node !== undefined && !node[part].lives
  }

  /** One drain of a queue at a time. */
  #begin(orphan: Orphan, isDue: () => Promise<boolean>): void {
    const { queue } = orphan
    if (this.#closing.signal.aborted) return
    this.#draining
      .run(queue, () => this.#drain(orphan, isDue))
      .catch((error: unknown) => this.onError(new Error(`ending jobs of ${queue}`, { cause: error })))
  }

  /**
   * Works the queue until it is empty, or somebody is back who works it. A worker is also what
   * finds the jobs whose own worker died.
   */
  async #drain(orphan: Orphan, isDue: () => Promise<boolean>): Promise<void> {
    const isLeft = async (): Promise<boolean> => (await this.queue.producer.unfinished(orphan.queue)) > 0
    if (!(await isLeft())) return
    const worker = orphan.serve(isDue)
    try {
      const until = performance.now() + DRAIN_MS
      while (performance.now() < until && !this.#closing.signal.aborted && (await isDue()) && (await isLeft())) {
        await delay(DRAIN_POLL_MS, undefined, { signal: this.#closing.signal }).catch(() => undefined)
      }
    } finally {
      await worker.stop()
    }
  }

  #serve<K extends QueueKind>(kind: K, queue: string, handlers: Handlers<K>): Orphan {
    return {
      queue,
      serve: (isDue) => {
        const mayWork = async (): Promise<boolean> => {
          const may = await isDue()
          if (!may) await worker.pause()
          return may
        }
        const worker = this.queue.serve({ kind, queue, handlers, concurrency: 4, mayWork, onError: this.onError })
        return { stop: () => this.queue.retire(worker) }
      },
    }
  }

  /** The queues of one part of a node that is gone. */
  #orphans(node: NodeStatus, part: NodePart): Orphan[] {
    if (part === 'extractor') {
      return [
        this.#serve('extract', QUEUES.extractOn(node.id), {
          extract: () => Promise.resolve({ node: node.id, made: false }),
        }),
      ]
    }
    const { producer } = this.queue
    const assemblies: Handlers<'assemble.node'> = {
      assemble: async ({ root, image }, { id, parent }) => {
        if (!parent) throw gone(node)
        await placeElsewhere(producer, { id, root, image, parent })
        return { node: node.id, id: image.id }
      },
    }
    return [
      this.#serve('assemble.node', QUEUES.assembleOn(node.id), assemblies),
      this.#serve('runtime.node', QUEUES.runtimeOn(node.id), {
        ...assemblies,
        launch: ({ launch }, { lock }) => this.#lose(node, launch, lock),
        start: () => Promise.reject(lost(node)),
        clean: () => Promise.reject(gone(node)),
      }),
    ]
  }

  /**
   * The container may be on the node's disk, and may even run: it keeps its name if the node has
   * shown it.
   */
  async #lose(node: NodeStatus, { container, name }: JobData<'launch'>['launch'], lock: JobLock): Promise<never> {
    const isShown = (await this.queue.nodes.containerIds(node.id)).includes(container)
    if (!isShown) await this.queue.nodes.giveBack(name, container, lock, { placement: false })
    throw lost(node)
  }

  /** Requests for any node, where there is none. */
  #unplaced(): Orphan {
    return this.#serve('runtime', QUEUES.runtime, {
      place: async (data, { lock }) => {
        const statuses = await this.queue.nodes.statuses()
        const reason = new StrataError('node_unavailable', whyNoNode(statuses))
        if (data.purpose === 'assemble') throw reason
        const { container, name } = data.launch
        const placed = await this.queue.nodes.placedOn(container)
        const node = statuses.find(({ id }) => id === placed)
        // A node had begun to take it before it was gone.
        if (node) return this.#lose(node, data.launch, lock)
        await this.queue.nodes.giveBack(name, container, lock, { placement: false })
        throw reason
      },
    })
  }

  #unextracted(): Orphan {
    return this.#serve('extract', QUEUES.extract, {
      extract: async () =>
        Promise.reject(new StrataError('node_unavailable', whyNoNode(await this.queue.nodes.statuses()))),
    })
  }
}

function isReady({ state }: NodeStatus): boolean {
  return state === 'ready'
}

function canExtract({ extractor }: NodeStatus): boolean {
  return extractor.lives
}

function gone({ id, host, runtime }: NodeStatus): StrataError {
  const since = runtime.seenAt === undefined ? '' : ` since ${new Date(runtime.seenAt).toISOString()}`
  return new StrataError(
    'node_unavailable',
    `the node ${id}${onHost(host)} has not answered${since}: start it again, or forget it and its containers with \`strata node rm ${id}\``,
  )
}

function lost(node: NodeStatus): StrataError {
  const { message } = gone(node)
  return new StrataError(
    'node_unavailable',
    `${message}. Whether the container was started there is not known, so it is not started elsewhere`,
  )
}

function onHost(host: string): string {
  return host === '' ? '' : ` on the host ${host}`
}

/** The first few. */
function namesOf(containers: readonly { readonly name: string }[]): string {
  const shown = containers.slice(0, 5).map(({ name }) => name)
  return containers.length > shown.length ? `${shown.join(', ')}, …` : shown.join(', ')
}
