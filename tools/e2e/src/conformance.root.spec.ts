import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { TestS3, whyNoTestS3 } from '@strata/store/testing'
import { afterEach, expect, it } from 'vitest'
import { AlternatingProxy } from './testing/alternating-proxy.js'
import {
  conformanceReport,
  conformanceSuite,
  runConformance,
  SPEC_VERSIONS,
  type ConformanceResult,
} from './testing/conformance.js'
import { absentOf } from './testing/peers.js'
import { StrataUnderTest, until } from './testing/strata.js'

/**
 * The official conformance suite, with nothing switched off, at two gateways in turn. Both versions
 * of the specification are asked of the same services, one after the other.
 */
const STORES = ['folder', 'MinIO'] as const
/** What the suite knows and version 1.1 has not. */
const NOT_IN_1_1 = [
  'Blob upload cancel',
  'Manifest put with tag params',
  'Sparse Manifests',
  'Tag Param',
  'Tag Param sha512',
]
/** The suite takes blobs of three chunks of `OCI-Chunk-Min-Length`, which follows from this. */
const MAX_BLOB_BYTES = String(2 ** 30)
const results = new Map<string, readonly ConformanceResult[]>()

let strata: StrataUnderTest | undefined
let s3: TestS3 | undefined
let proxy: AlternatingProxy | undefined
afterEach(async () => {
  await proxy?.stop()
  await strata?.dispose()
  await s3?.remove()
  proxy = strata = s3 = undefined
})

/** A gateway with the storage service, and another gateway: the registry needs no node. */
async function twoGateways(store: (typeof STORES)[number]): Promise<AlternatingProxy> {
  s3 = store === 'MinIO' ? await TestS3.start('minio', '/var/tmp') : undefined
  strata = await StrataUnderTest.start({
    topology: 'standalone',
    store: s3 ?? 'folder',
    environment: { STRATA_SPARSE_IMAGES: 'true', STRATA_MAX_BLOB_BYTES: MAX_BLOB_BYTES },
    started: false,
  })
  const { socket: first, folder } = strata
  const second = join(folder, 'second.sock')
  await strata.startGroup(['gateway', 'storage'], true)
  await strata.startGroup(['gateway'], false, { name: 'second', environment: { STRATA_SOCKET: second } })
  for (const socket of [first, second]) await until(() => answers(socket), 'both gateways answer', 60, 100)
  return AlternatingProxy.start(first, second)
}

const answers = async (socket: string): Promise<boolean> =>
  (await strata?.request('GET', '/v2/', undefined, { socket }).catch(() => undefined))?.status === 200

it.for(STORES)(
  'the conformance suite passes completely, each request at the other gateway: %s',
  { timeout: 600_000 },
  async (store, context) => {
    const why = store === 'MinIO' ? whyNoTestS3('minio') : undefined
    const absent = absentOf(['go'])
    if (why !== undefined) context.skip(why)
    if (absent.length > 0) context.skip(`it needs ${absent.join(', ')}`)
    const suite = await conformanceSuite()
    proxy = await twoGateways(store)
    const found: ConformanceResult[] = []
    for (const version of SPEC_VERSIONS) {
      const result = await runConformance(suite, version, proxy.host, join(strata!.folder, `results-${version}`))
      const cancels = expect.stringContaining('/blob-post-cancel') as string
      expect(result.notPassed, version).toEqual(version === '1.1' ? [cancels, cancels] : [])
      expect(result.counts).toMatchObject({ failures: 0, errors: 0, skipped: 0, disabled: result.notPassed.length })
      expect(result.counts.tests).toBeGreaterThan(800)
      const said = Object.entries({ ...result.apis, ...result.data }).filter(([, status]) => status !== 'Pass')
      const outside = version === '1.1' ? NOT_IN_1_1.map((name) => [name, 'Disabled'] as const) : []
      expect(Object.fromEntries(said)).toEqual(Object.fromEntries(outside))
      found.push(result)
    }
    const [one, other] = proxy.counts as [number, number]
    expect(Math.abs(one - other)).toBeLessThan(2)
    results.set(store, found)
    const report = process.env['STRATA_TEST_REPORT']
    if (report !== undefined && results.size === STORES.length) await writeFile(report, conformanceReport(results))
  },
)
