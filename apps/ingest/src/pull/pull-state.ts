import { isDigest, NOT_A_DIGEST, type Digest } from '@strata/oci'
import { StrataError } from '@strata/base'
import type { Lease, LeaseRun, Leases } from '@strata/store'
import { z } from 'zod'

const digest = z.custom<Digest>(isDigest, NOT_A_DIGEST)

/** What the pull is for: settled once, so that all runs bring the same, whatever a tag does. */
const rootSchema = z.object({
  digest,
  mediaType: z.string().max(256),
  /** Whether the name did not stand for it when the pull began. */
  isNew: z.boolean(),
})
export type PullRoot = z.infer<typeof rootSchema>

/**
 * What of the lease's `request` is the pull's own, beside what it was asked for
 * (`CONTRACTS.pull.data`): how far it has come.
 */
const stateSchema = z.object({
  root: rootSchema.optional(),
  /** The uploads that bring a blob each. There are never more than blobs that come at once. */
  uploads: z.record(digest, z.uuid()).default({}),
  /** The blobs that were fetched. */
  fetched: z
    .object({ count: z.number().int().nonnegative(), bytes: z.number().int().nonnegative() })
    .default({ count: 0, bytes: 0 }),
  /** Somebody asks in his own name. The credentials are in the job alone. */
  hasCredentials: z.boolean().default(false),
})
type State = z.infer<typeof stateSchema>

/** How far a pull has come, as its lease says: one run reads it, and writes each change. */
export class PullState {
  #state: State
  #hasGotOn = false

  constructor(
    private readonly leases: Leases,
    private readonly run: LeaseRun,
    lease: Lease,
  ) {
    const { success, data } = stateSchema.safeParse(lease.request)
    if (!success) throw new StrataError('corrupt', `the record of the pull ${run.lease} is damaged: pull again`)
    this.#state = data
  }

  get root(): PullRoot | undefined {
    return this.#state.root
  }

  get fetched(): State['fetched'] {
    return this.#state.fetched
  }

  get hasCredentials(): boolean {
    return this.#state.hasCredentials
  }

  /** Whether this run has recorded bytes, which the next one does not fetch. */
  get hasGotOn(): boolean {
    return this.#hasGotOn
  }

  /** A chunk of an upload is recorded. */
  gotOn(): void {
    this.#hasGotOn = true
  }

  /** Those that are not finished. */
  get uploads(): readonly string[] {
    return Object.values(this.#state.uploads)
  }

  uploadOf(digest: Digest): string | undefined {
    return this.#state.uploads[digest]
  }

  async settle(root: PullRoot): Promise<void> {
    await this.#change({ root })
  }

  async begun(digest: Digest, upload: string): Promise<void> {
    await this.#change({ uploads: { ...this.#state.uploads, [digest]: upload } })
  }

  /** The blob has come; `bytes`: its size. */
  async finished(digest: Digest, bytes: number): Promise<void> {
    const { count, bytes: before } = this.#state.fetched
    await this.#change({
      uploads: without(this.#state.uploads, digest),
      fetched: { count: count + 1, bytes: before + bytes },
    })
    this.gotOn()
  }

  /** The state here changes at once: what is written last has all changes before it. */
  async #change(change: Partial<State>): Promise<void> {
    this.#state = { ...this.#state, ...change }
    await this.leases.update(this.run, (lease) => {
      const { root, uploads, fetched } = this.#state
      return { ...lease, request: { ...lease.request, ...(root && { root }), uploads, fetched } }
    })
  }
}

function without(uploads: State['uploads'], digest: Digest): State['uploads'] {
  return Object.fromEntries(Object.entries(uploads).filter(([one]) => one !== digest))
}
