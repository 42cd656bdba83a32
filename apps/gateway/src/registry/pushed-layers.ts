import { randomUUID } from 'node:crypto'
import { Inject, Injectable, Logger, type BeforeApplicationShutdown } from '@nestjs/common'
import { asStrataError, atMost, Serial } from '@strata/base'
import { unpackableLayers, type ImageLayer } from '@strata/images'
import { hexOf, type Digest } from '@strata/oci'
import { Producer, QUEUES } from '@strata/queue'
import { BlobStore, keys, OBJECT_STORE, type ObjectStore } from '@strata/store'
import { GATEWAY_CONFIG, type GatewayConfig } from '../config.js'

/** Manifests that wait to be looked at. */
const MAX_MANIFESTS = 1_000
/** Layers of one manifest that get a job. */
const MAX_LAYERS = 128
/** Jobs of all gateways that wait in the queue. */
const MAX_WAITING = 1_000
/** Layers that are looked at at the same time: 2 small store calls each. */
const AT_ONCE = 16

/**
 * Has the layers of pushed images indexed, behind the push (STRATA_INDEX_ON_PUSH): by one `extract`
 * job for each layer that has no index yet. So its files can be listed, and on the node that worked
 * the job a container starts, without waiting for that.
 *
 * Laws
 * - A push neither waits for this nor fails because of it. If Redis is away, the gateway dies, or a
 *   bound is reached, a layer gets no job. Whatever needs the layer first adds a job of its own, as
 *   it does without this option.
 * - Extractors take all other jobs first (`Producer.addInBackground`).
 * - A layer has one job at a time, however many manifests name it, on all gateways.
 * - Layers that are indexed start no job. Nor does what is no layer of an image: an index, a chart,
 *   a signature.
 *
 * Manifests are looked at one after another, and only their digests are kept until then.
 */
@Injectable()
export class PushedLayers implements BeforeApplicationShutdown {
  readonly #logger = new Logger('push')
  readonly #blobs: BlobStore
  readonly #line = new Serial()
  readonly #waiting = new Set<Digest>()
  #isClosing = false
  #hasFailed = false

  constructor(
    @Inject(OBJECT_STORE) private readonly store: ObjectStore,
    private readonly producer: Producer,
    @Inject(GATEWAY_CONFIG) private readonly config: GatewayConfig,
  ) {
    this.#blobs = new BlobStore(store)
  }

  /** To be called when the manifest is visible. */
  index(manifest: Digest): void {
    if (!this.config.STRATA_INDEX_ON_PUSH || this.#waiting.size >= MAX_MANIFESTS) return
    if (this.#waiting.has(manifest)) return
    this.#waiting.add(manifest)
    void this.#line.run(async () => {
      this.#waiting.delete(manifest)
      if (!this.#isClosing) await this.#addJobs(manifest)
    })
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.#isClosing = true
    await this.#line.settled()
  }

  async #addJobs(manifest: Digest): Promise<void> {
    try {
      const layers = await unpackableLayers(manifest, this.#blobs)
      const distinct = [...new Map(layers.map((layer) => [layer.digest, layer])).values()].slice(0, MAX_LAYERS)
      const areDue = await atMost(AT_ONCE, distinct, (layer) => this.#isDue(layer))
      const root = randomUUID()
      const jobs = distinct
        .filter((_, at) => areDue[at])
        .map(({ digest, diffId, size }) => ({
          name: 'extract' as const,
          queue: QUEUES.extract,
          // Of all that the job is told: a manifest that lies about a layer must not stand for one
          // that does not.
          id: `push-${hexOf(digest)}-${hexOf(diffId)}-${size}`,
          data: { root, layer: { digest, diffId, size } },
        }))
      await this.producer.addInBackground(QUEUES.extract, jobs, MAX_WAITING)
      this.#hasFailed = false
    } catch (error) {
      // Once for each outage, not for each push in it.
      if (this.#hasFailed) return
      this.#hasFailed = true
      const { message } = asStrataError(error)
      this.#logger.warn(`the layers of ${manifest} are indexed when they are needed, not now: ${message}`)
    }
  }

  /** Whether the layer is here and has no index. */
  async #isDue({ digest, diffId }: ImageLayer): Promise<boolean> {
    const record = await this.#blobs.stat(digest)
    // Of another diffID: the manifest's config is wrong, and its job would only say so.
    if (!record || (record.diffId ?? diffId) !== diffId) return false
    return record.diffId === undefined || !(await this.store.stat(keys.index(diffId)))
  }
}
