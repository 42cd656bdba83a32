import { randomUUID } from 'node:crypto'
import type { Image, Images } from '@strata/images'
import { atMost, JointRuns, StrataError, toldToAll } from '@strata/base'
import { type Digest, type DiffId } from '@strata/oci'
import {
  MAX_UNREADABLE,
  QUEUES,
  type JobContext,
  type JobData,
  type JobResult,
  type Journal,
  type NewJob,
  type NodeDirectory,
  type Producer,
} from '@strata/queue'
import { keys, type Collected, type Collector } from '@strata/store'
import { z } from 'zod'

type Collect = JobData<'collect'>
type NodePart = JobResult<'collect'>['nodes'][number]

/** What counts here of a container that a node has published. */
const publishedSchema = z.object({ id: z.string(), imageId: z.string() })

/** Images and manifests without a tag that are removed at the same time. */
const REMOVED_AT_ONCE = 8
/** Whether a node that works for long still lives is asked this often. */
const ASK_MS = 1_000
/** What a job may name of one kind. A dry run beyond that tells too little rather than too much. */
const MOST_NAMED = 10_000

/**
 * The `collect` job: the store first, then every node that lives, all at once, since what a node
 * needs follows from what the store has. A node that does not answer is told of in the report, and
 * does its part at the next collection.
 *
 * Those who ask for the same before it begins share one run and its report: it takes all that
 * nobody needs, whoever asked. It may run twice, also at the same time: the collector's protocol
 * stands that. The report is then that of the run that ended.
 */
export class Collection {
  readonly #runs = new JointRuns<string, JobResult<'collect'>>()

  constructor(
    private readonly collector: Collector,
    private readonly images: Images,
    private readonly journal: Journal,
    private readonly producer: Producer,
    private readonly nodes: NodeDirectory,
    private readonly warn: (message: string) => void,
  ) {}

  /**
   * The schedule's job: a collection is a request like any other, in the list of jobs, unless one
   * waits or is under way.
   */
  async due(): Promise<JobResult<'collect-due'>> {
    if ((await this.producer.pending('collect', QUEUES.collect)) > 0) return { queued: false }
    const id = randomUUID()
    await this.journal.create(id, 'collect', 'waiting')
    await this.producer.add({
      name: 'collect',
      queue: QUEUES.collect,
      id,
      data: { root: id, dryRun: false, untagged: false, absentContainers: [] },
    })
    return { queued: true }
  }

  async run(data: Collect, context: JobContext): Promise<JobResult<'collect'>> {
    await context.progress({ state: 'active', step: 'collecting' })
    const { dryRun, untagged, absentContainers } = data
    return this.#runs.run(
      JSON.stringify([dryRun, untagged, absentContainers]),
      (signal) => this.#run(data, context, signal),
      context.signal,
    )
  }

  async #run(data: Collect, context: JobContext, signal: AbortSignal): Promise<JobResult<'collect'>> {
    const untagged = data.untagged ? await this.#removeUntagged(data) : []
    const others = data.untagged ? await this.#removeUntaggedManifests(data) : []
    const absent = data.dryRun
      ? { images: new Set(untagged.map(({ digest }) => digest)), manifests: new Set(others) }
      : undefined
    const { report, indexes, unreadable } = await this.collector.collect({
      references: (told) => this.images.all.references(absent, told),
      dryRun: data.dryRun,
      signal,
    })
    this.#warnOf(unreadable)
    const { count, bytes: left } = report.undeleted
    if (count > 0)
      this.warn(`the store does not delete ${count} objects of ${left} bytes now: the next collection tries again`)
    if (!data.dryRun) await this.#tidyNames()
    await context.progress({ step: 'cleaning nodes' })
    const nodes = await this.#cleanNodes(data, { images: [...(absent?.images ?? [])], indexes }, signal)
    const bytes =
      report.bytes +
      report.partialUploads.bytes -
      report.linked +
      nodes.reduce((sum, node) => sum + (node.done ? node.bytes : 0), 0)
    return {
      dryRun: data.dryRun,
      images: untagged.map(({ id }) => id),
      store: report,
      nodes,
      unreadable: {
        count: unreadable.length,
        first: unreadable.slice(0, MAX_UNREADABLE).map(({ name, reason }) => ({ name, reason })),
      },
      bytes,
    }
  }

  /** Bounded: the same are found at each collection, once an hour. */
  #warnOf(unreadable: Collected['unreadable']): void {
    for (const { name, reason } of unreadable.slice(0, MAX_UNREADABLE))
      this.warn(`${name} keeps what it may refer to in the store: ${reason}`)
    const more = unreadable.length - MAX_UNREADABLE
    if (more > 0) this.warn(`${more} more names and manifests cannot be read, and keep what they may refer to`)
  }

  async #removeUntagged({ dryRun, absentContainers }: Collect): Promise<Pick<Image, 'id' | 'digest'>[]> {
    // Images first, then who uses them: reading the images takes a while, and containers are
    // claimed meanwhile.
    const candidates = await this.images.all.untagged()
    const containers = (await this.nodes.allContainers()).map(readPublished)
    const used = new Set<string>(
      containers.flatMap(({ id, imageId }) => (absentContainers.includes(id) ? [] : [imageId])),
    )
    const images = candidates.filter(({ id }) => !used.has(id))
    if (dryRun) return images
    const areGone = await atMost(REMOVED_AT_ONCE, images, ({ digest }) => this.images.removeUntagged(digest))
    return images.filter((_, at) => areGone[at])
  }

  /** What is no image, was kept for a tag and has none: a chart whose tag was moved. */
  async #removeUntaggedManifests({ dryRun }: Collect): Promise<string[]> {
    const found = await this.images.all.untaggedManifests()
    if (!dryRun) await atMost(REMOVED_AT_ONCE, found, (manifest) => this.images.removeUntaggedManifest(manifest))
    return found.map(({ repository, digest }) => keys.imageDigest(repository, digest))
  }

  /** It writes first. On a full disk it waits for the next collection: what makes room goes on. */
  async #tidyNames(): Promise<void> {
    await this.images.tidyNames().catch((error: unknown) => {
      if (!(error instanceof StrataError && error.code === 'storage_full')) throw error
    })
  }

  async #cleanNodes(
    { dryRun, absentContainers }: Collect,
    { images, indexes }: { images: readonly Digest[]; indexes: readonly DiffId[] },
    signal: AbortSignal,
  ): Promise<NodePart[]> {
    const alive = new Set((await this.nodes.list()).map(({ id }) => id))
    const absent = dryRun
      ? { images: images.slice(0, MOST_NAMED), indexes: indexes.slice(0, MOST_NAMED), containers: absentContainers }
      : { images: [], indexes: [], containers: [] }
    return Promise.all(
      (await this.nodes.known()).map(async (node) => {
        if (!alive.has(node)) return { node, done: false as const, reason: `the node ${node} does not answer` }
        try {
          return {
            node,
            done: true as const,
            ...(await this.#clean(
              node,
              { name: 'clean', queue: QUEUES.runtimeOn(node), id: `clean-${randomUUID()}`, data: { dryRun, absent } },
              signal,
            )),
          }
        } catch (error) {
          if (signal.aborted) throw error
          return { node, done: false as const, reason: toldToAll(error).message }
        }
      }),
    )
  }

  /**
   * Waits as long as the node lives. A job that no longer has anyone waiting is taken back if it
   * has not begun.
   */
  async #clean(node: string, job: NewJob<'clean'>, signal: AbortSignal): Promise<JobResult<'clean'>> {
    const gone = new AbortController()
    const timer = setInterval(() => {
      this.nodes.get(node).catch((error: unknown) => {
        if (error instanceof StrataError && error.code === 'node_unavailable') gone.abort(error)
      })
    }, ASK_MS)
    try {
      await this.producer.add(job)
      return await this.producer.result(job, AbortSignal.any([signal, gone.signal]))
    } catch (error) {
      await this.producer.withdraw(job).catch(() => undefined)
      throw error
    } finally {
      clearInterval(timer)
    }
  }
}

/**
 * One that is not understood may use any image.
 * @throws StrataError `node_unavailable`
 */
function readPublished(view: unknown): z.infer<typeof publishedSchema> {
  const { data } = publishedSchema.safeParse(view)
  if (data) return data
  const id = z.object({ id: z.string() }).safeParse(view).data?.id.slice(0, 12) ?? 'without an id'
  throw new StrataError(
    'node_unavailable',
    `what a node has told of the container ${id} is not understood, so it may use any image: start the node again with this release, or forget it with \`strata node rm\` if it is gone for good`,
  )
}
