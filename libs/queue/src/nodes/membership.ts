import { setTimeout as delay } from 'node:timers/promises'
import { asStrataError, SingleFlight, StrataError } from '@strata/base'
import type { NodeIdentity } from './node-identity.js'
import type { NodePart, NodeRecord } from './node-status.js'
import type { NodeDirectory, Registered } from './nodes.js'
import { LIFE_MS } from './scripts.js'

/**
 * Well within a registration's life, and soon enough to publish all again when Redis was emptied.
 */
const RENEW_MS = 3_000
/** A renewal older than this proves nothing: another instance may have the id by now. */
const TRUSTED_MS = LIFE_MS - RENEW_MS
/** How often a start looks whether the instance that has its id goes on renewing. */
const LOOK_MS = 250

/** How a part of a node stands, as of its last renewal. */
export interface Standing {
  /** This instance has the node's id: it may take jobs. */
  readonly member: boolean
  /** The node's other part lives too. */
  readonly whole: boolean
  /**
   * Redis did not know this part: a first time, after a long pause, or Redis was emptied. All it
   * publishes is due again.
   */
  readonly unknown: boolean
}

export interface MembershipOptions {
  readonly directory: NodeDirectory
  readonly identity: NodeIdentity
  readonly part: NodePart
  /**
   * Why this node may not come back (someone removed it); looked at whenever Redis did not know the
   * part.
   */
  readonly removed: () => Promise<StrataError | undefined>
  readonly warn: (message: string) => void
}

/**
 * One part of a node (its runtime, its extractor), known to others under the node's id for as long
 * as it lives.
 *
 * Laws:
 * - An id belongs to one node folder on one boot of one machine: the first living one. A second is
 *   refused (`node_exists`), with the first one's host. Both parts of a node come from one folder,
 *   so they agree.
 * - A process that died keeps its id for the life of its registration (15 s). The same folder takes
 *   it back at once, also after `kill -9`; another waits until the life is over, and is refused as
 *   soon as the first renews.
 * - `mayWork` is asked before every job. A process that stood still for longer than its
 *   registration lived renews first, and takes no job when another has its place.
 */
export class NodeMembership {
  #standing: Standing = { member: false, whole: false, unknown: true }
  #record: NodeRecord | undefined
  #renewedAt = -Infinity
  #timer: NodeJS.Timeout | undefined
  readonly #renewals = new SingleFlight<void>()
  #closed = false

  private constructor(private readonly options: MembershipOptions) {}

  /**
   * Takes the id, or says who has it. The part is not shown to others before `show`.
   * @throws StrataError `node_exists`, `node_removed`
   */
  static async join(options: MembershipOptions): Promise<NodeMembership> {
    const membership = new NodeMembership(options)
    await membership.#claim()
    membership.#plan()
    return membership
  }

  /** Soon again while the other part is not there: two processes start side by side. */
  #plan(): void {
    if (this.#closed) return
    this.#timer = setTimeout(
      () => {
        this.renew()
          .catch((error: unknown) => this.options.warn(`registering the node: ${asStrataError(error).message}`))
          .finally(() => this.#plan())
      },
      this.#standing.member && !this.#standing.whole ? LOOK_MS : RENEW_MS,
    )
  }

  /** Told at each renewal. */
  onRenewal(listener: (standing: Standing) => void): void {
    this.#listeners.push(listener)
    listener(this.#standing)
  }
  readonly #listeners: ((standing: Standing) => void)[] = []

  get standing(): Standing {
    return this.#standing
  }

  /**
   * From here on others find the part: its record for a runtime, nothing more than its being there
   * for an extractor.
   */
  async show(record: NodeRecord | undefined): Promise<void> {
    this.#record = record
    this.#shown = true
    await this.renew()
  }
  #shown = false

  /** Whether a job may be begun now. Asks Redis only where the last renewal is too old to tell. */
  async mayWork(): Promise<boolean> {
    if (performance.now() - this.#renewedAt > TRUSTED_MS) await this.renew().catch(() => undefined)
    return this.#standing.member
  }

  /** The same for work that needs the node's other part. */
  async mayPlace(): Promise<boolean> {
    return (await this.mayWork()) && this.#standing.whole
  }

  /** One at a time; who asks meanwhile gets its result. */
  renew(): Promise<void> {
    return this.#renewals.run(() => this.#renew())
  }

  /**
   * Another process of this node folder, or any other once this was the last, may take the id at
   * once. One that was never shown only stops renewing: it may be a second process of a folder
   * whose first one is there and well.
   */
  async leave(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    await this.#renewals.settled()
    if (this.#shown) await this.options.directory.leave(this.options.identity, this.options.part)
  }

  async #claim(): Promise<void> {
    let left = Infinity
    for (;;) {
      const outcome = await this.#register()
      if (outcome.kind === 'registered') return this.#stand(outcome)
      if (outcome.kind === 'removed') throw outcome.reason
      // The life of a registration only gets shorter, unless it is renewed: then its owner lives.
      if (outcome.leftMs > left) throw takenBy(this.options.identity.id, outcome.host)
      left = outcome.leftMs
      await delay(LOOK_MS)
    }
  }

  async #renew(): Promise<void> {
    if (this.#closed) return
    const outcome = await this.#register().catch((error: unknown) => {
      // Not known to have its place, so without it.
      this.#change({ member: false, whole: false, unknown: true })
      throw error
    })
    if (outcome.kind === 'registered') return this.#stand(outcome)
    const reason = outcome.kind === 'removed' ? outcome.reason : takenBy(this.options.identity.id, outcome.host)
    if (this.#standing.member) this.options.warn(`${reason.message}. This process takes no more jobs`)
    this.#change({ member: false, whole: false, unknown: true })
  }

  /**
   * What Redis did not know may have been removed meanwhile: by someone who first noted that and
   * then saw that nobody had the id. So the id is taken first, unseen by others, then the note is
   * looked for, and only then the part is shown.
   */
  async #register(): Promise<Registered | { readonly kind: 'removed'; readonly reason: StrataError }> {
    const { directory, identity, part, removed } = this.options
    const said = (): NodeRecord | null | undefined => (this.#shown ? (this.#record ?? null) : undefined)
    if (performance.now() - this.#renewedAt > LIFE_MS) this.#isUnchecked = true
    const outcome = await directory.register(identity, part, this.#isUnchecked ? undefined : said())
    if (outcome.kind === 'taken') return outcome
    this.#isUnchecked ||= outcome.lapsed
    if (!this.#isUnchecked) return outcome
    const reason = await removed()
    if (reason) {
      await directory.leave(identity, part)
      return { kind: 'removed', reason }
    }
    this.#isUnchecked = false
    const shown = await directory.register(identity, part, said())
    return shown.kind === 'taken' ? shown : { ...shown, lapsed: true }
  }
  /** Whether the node was removed is to be asked yet. */
  #isUnchecked = true

  #stand({ lapsed, unknown, whole }: Registered & { readonly kind: 'registered' }): void {
    this.#renewedAt = performance.now()
    this.#change({ member: true, whole, unknown: unknown || lapsed })
  }

  #change(standing: Standing): void {
    this.#standing = standing
    for (const listener of this.#listeners) listener(standing)
  }
}

function takenBy(id: string, host: string): StrataError {
  return new StrataError(
    'node_exists',
    `a node ${id} is already running, on the host ${host}, from another folder than this one: give each node an id of its own (STRATA_NODE)`,
  )
}
