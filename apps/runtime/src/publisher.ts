import { pendingJob, type Containers, type ContainerRecord } from '@strata/containers'
import { asStrataError, orAborted, Serial, StrataError } from '@strata/base'
import type { Journal, NodeDirectory, NodeMembership } from '@strata/queue'
import { ANSWER_MS } from './container-requests.js'
import { publicView } from './container-view.js'

/**
 * Keeps Redis' copy of this node's containers right: all of them whenever Redis does not know the
 * node, one at each change, none while the node has not its place (another process may publish
 * under its id then). Writes are made one after another, so that an older state never lands after a
 * newer one. What Redis refuses is told again at the next renewal.
 */
export class Publisher {
  readonly #unlisten: () => void
  readonly #writes = new Serial()
  /** At the start always: what happened while no process served the node was told to nobody. */
  #isDue = true
  /** By container: known here when the record is gone. */
  readonly #names = new Map<string, string>()
  /** Containers whose name another has got while this node was forgotten. */
  readonly #nameless = new Set<string>()
  /** Containers of forgotten requests that could not be given up yet. */
  readonly #forgotten = new Set<string>()
  /** How to end the requests of a container that is gone, where Redis was not told yet. */
  readonly #ends = new Map<string, () => Promise<void>>()

  constructor(
    private readonly directory: NodeDirectory,
    private readonly journal: Journal,
    private readonly node: string,
    private readonly membership: NodeMembership,
    private readonly containers: Containers,
    private readonly warn: (message: string) => void,
    private readonly answerMs = ANSWER_MS,
  ) {
    // One that is removed before the first renewal has a name that must be freed, too.
    for (const { id, name } of containers.list()) if (name !== undefined) this.#names.set(id, name)
    this.#unlisten = containers.onChange((id, record) =>
      this.#enqueue(async () => {
        try {
          await this.#one(id, record)
        } catch (error) {
          this.#isDue = true
          throw error
        }
      }),
    )
    membership.onRenewal(({ member, unknown }) => {
      this.#isDue ||= unknown
      for (const id of this.#ends.keys()) this.#enqueue(() => this.#endRequests(id))
      if (member) this.#enqueue(() => (this.#isDue ? this.#all() : this.#endLost({ forgotten: false })))
    })
  }

  /** The name by which a container is found, if it has one. */
  nameOf({ id, name }: ContainerRecord): string | undefined {
    return this.#nameless.has(id) ? undefined : name
  }

  /** All that has happened so far is published. */
  settled(): Promise<void> {
    return this.#writes.settled()
  }

  /**
   * As `settled`, but no longer than Redis may take to answer: the rest is published when it does.
   */
  async shown(): Promise<void> {
    const late = AbortSignal.timeout(this.answerMs)
    await orAborted(this.settled(), late).catch(() => {
      this.warn('Redis does not answer: what has happened to containers is published when it does')
    })
  }

  /** The container is gone: ends its requests by `end`, now or as soon as Redis can be told. */
  endRequests(id: string, end: () => Promise<void>): void {
    this.#ends.set(id, end)
    this.#enqueue(() => this.#endRequests(id))
  }

  async #endRequests(id: string): Promise<void> {
    await this.#ends.get(id)?.()
    this.#ends.delete(id)
  }

  async close(): Promise<void> {
    this.#unlisten()
    await this.#writes.settled()
  }

  #enqueue(work: () => Promise<void>): void {
    this.#writes.run(work).catch((error: unknown) => this.warn(`publishing: ${String(error)}`))
  }

  async #all(): Promise<void> {
    if (!this.#isDue || !this.membership.standing.member) return
    this.#isDue = false
    try {
      await this.#publishAll()
    } catch (error) {
      this.#isDue = true
      throw error
    }
  }

  async #publishAll(): Promise<void> {
    const records = this.containers.list()
    for (const { id, name } of records) if (name !== undefined) this.#names.set(id, name)
    const present = new Set(records.map(({ id }) => id))
    // Removed, but this node's process died before it said so.
    // Another release may have written its record, so nothing is read of that.
    const gone = (await this.directory.containerIds(this.node)).filter((id) => !present.has(id))
    const claimed = gone.length > 0 ? await this.directory.claimedNames() : new Map<string, string>()
    for (const id of gone) await this.directory.withdraw(this.node, id, claimed.get(id))
    for (const { id, name } of records) {
      await this.directory.claimContainer(id, this.node)
      if (name !== undefined && !(await this.directory.claimName(name, id))) {
        this.warn(`the name ${name} is another container's meanwhile: ${id.slice(0, 12)} is shown by its id`)
        this.#nameless.add(id)
      } else this.#nameless.delete(id)
    }
    await this.#endLost({ forgotten: true })
    await this.directory.publishAll(
      this.node,
      new Map(this.containers.list().map((record) => [record.id, publicView(record, this.node, this.nameOf(record))])),
    )
  }

  /**
   * A container whose request has ended before its launch, creation or start did is given up,
   * instead of waiting for ever. So it is when this node was gone, and where a run of the request's
   * jobs has lost its job. `forgotten`: also one whose request Redis does not know. A container
   * that waits for a start has no request, and stays. One that cannot be given up now (a full disk)
   * keeps no other waiting: the next look tries again.
   */
  async #endLost({ forgotten }: { forgotten: boolean }): Promise<void> {
    for (const record of this.containers.list()) {
      const { id } = record
      if (forgotten && pendingJob(record) !== undefined) this.#forgotten.add(id)
      try {
        await this.#endLostOf(record)
        this.#forgotten.delete(id)
      } catch (error) {
        if (asStrataError(error).code === 'queue_unavailable') throw error
        this.warn(`giving up what was begun with container ${id.slice(0, 12)}: ${asStrataError(error).message}`)
      }
    }
  }

  async #endLostOf(record: ContainerRecord): Promise<void> {
    const { id } = record
    const job = pendingJob(record)
    if (job === undefined) return
    const end = await this.journal.endOf(job)
    if (end === 'under way' || (end === 'unknown' && !this.#forgotten.has(id))) return
    const told = end === 'unknown' ? undefined : end.error
    const why = told?.message ?? 'its launch was ended while the node was away, before it started'
    const isEnded = await this.containers.giveUp(id, new StrataError(told?.code ?? 'node_unavailable', why), job)
    if (isEnded && told?.code === 'cancelled') await this.containers.remove(id)
    // Another request of the same number may have come to the record meanwhile, which is lost too.
    const now = this.containers.list().find((one) => one.id === id)
    if (now && pendingJob(now) !== job) await this.#endLostOf(now)
  }

  async #one(id: string, record: ContainerRecord | undefined): Promise<void> {
    // It comes with all the others when the node has its place again.
    if (!this.membership.standing.member) return
    if (record) {
      if (record.name !== undefined) this.#names.set(id, record.name)
      return this.directory.publish(this.node, id, publicView(record, this.node, this.nameOf(record)))
    }
    await this.directory.withdraw(this.node, id, this.#names.get(id))
    this.#names.delete(id)
    this.#forgotten.delete(id)
  }
}
