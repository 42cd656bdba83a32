import { randomUUID } from 'node:crypto'
import { mkdtemp } from 'node:fs/promises'
import { gzipSync } from 'node:zlib'
import type { Failpoint } from '@strata/base'
import { busyboxLayer, DebianRegistry, whyNoDebianRegistry, type Service } from '@strata/e2e/testing'
import { digestOf, HOST_PLATFORM, MEDIA } from '@strata/oci'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { onEachStore, triesAll } from './testing/each-store.js'
import { ownLayer } from './testing/images.js'
import { World } from './testing/world.js'

/** Of what a pushed, and so a pulled, blob leaves: all is to be gone when all is right again. */
const SHORT = { STRATA_PUSH_EXPIRY_MS: '6000', STRATA_PUSH_HOLD_MS: '6000' }
const MIB = 1024 * 1024
/** Larger than a chunk, which is recorded. */
const LARGE = 65 * MIB

/** Between which a bucket is written to. */
const OF_A_BUCKET: ReadonlySet<Failpoint> = new Set<Failpoint>(['pull.upload-noted', 'push.chunk-recorded'])

onEachStore('on %s, a service that is killed in a pull at', (store) => {
  let world: World
  let registry: DebianRegistry
  beforeAll(async () => {
    const why = whyNoDebianRegistry()
    if (why !== undefined) throw new Error(why)
    registry = await DebianRegistry.start(await mkdtemp('/var/tmp/strata-pulls-'))
    world = await World.start(store, SHORT)
  })
  afterAll(async () => {
    world.report()
    await world.dispose()
    await registry.stop()
  })

  /** An index of one image, with a layer that no other image has. */
  async function fill(repository: string, size: number): Promise<string> {
    const tars = [await busyboxLayer(), await ownLayer(size)]
    const blob = (bytes: Buffer, type: string) => registry.fill.blob(repository, bytes, type)
    const layers = [await blob(gzipSync(tars[0]!), MEDIA.layerGzip), await blob(tars[1]!, MEDIA.layer)]
    const rootfs = { type: 'layers', diff_ids: tars.map((tar) => digestOf(tar)) }
    const document = { ...HOST_PLATFORM, config: { Env: ['PATH=/bin'] }, rootfs }
    const config = await blob(Buffer.from(JSON.stringify(document)), MEDIA.config)
    const image = { schemaVersion: 2, mediaType: MEDIA.manifest, config, layers }
    const manifest = { ...(await registry.fill.manifest(repository, image)), platform: HOST_PLATFORM }
    const index = { schemaVersion: 2, mediaType: MEDIA.index, manifests: [manifest] }
    await registry.fill.manifest(repository, index, '1')
    return `${registry.host}/${repository}:1`
  }

  async function pulls(service: Service, all: readonly Failpoint[]): Promise<void> {
    const expected: (() => Promise<string[]>)[] = []
    const steps = all.filter((step) => triesAll(store) || OF_A_BUCKET.has(step))
    const names: string[] = []
    for (const step of steps) {
      const job = randomUUID()
      const size = step === 'push.chunk-recorded' ? LARGE : 3 * MIB
      const name = await fill(`t/${step.replace('.', '-')}`, size)
      names.push(name)
      await world.killAt(service, step, () => world.strata.request('POST', `/v1/images?pull=${name}&job=${job}`))
      expected.push(async () => {
        const { state, error } = await world.job(job)
        const isListed = (await world.names()).includes(name)
        if (state === 'completed' && isListed) return []
        return [`the pull killed at ${step} is ${state} ${error?.message ?? ''}, ${isListed ? '' : 'not '}listed`]
      })
    }
    await world.right(`${service} killed at ${steps.length} steps of a pull`, async () =>
      (await Promise.all(expected.map((one) => one()))).flat(),
    )
    expect(await world.notLaunchable(names)).toEqual([])
    // Nothing but the images of this test, and none without a name.
    expect((await world.strata.images()).filter((image) => image.names.length !== 1)).toEqual([])
  }

  it('the steps of a pull: gateway', async () => {
    await pulls('gateway', ['pull.lease-made', 'pull.queued'])
  })

  it('the steps of a pull: ingest', async () => {
    await pulls('ingest', [
      'pull.resolved',
      'pull.upload-noted',
      'push.chunk-recorded',
      'push.committing',
      'push.committed',
      'push.held',
      'push.upload-ended',
      'pull.blob-held',
      'load.children-added',
      'pull.received',
      'load.committing',
      'load.name-set',
      'load.named',
      'load.completed',
      'load.upload-ended',
    ])
  })

  it('the steps of a pull: extractor', async () => {
    await pulls('extractor', ['extract.index-kept', 'extract.proven'])
  })
})
