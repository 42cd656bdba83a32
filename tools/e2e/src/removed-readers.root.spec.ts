import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { afterEach, expect, it } from 'vitest'
import { TestS3, whyNoTestS3 } from '@strata/store/testing'
import { layerOf, loadBusybox } from './testing/busybox-image.js'
import { StrataUnderTest } from './testing/strata.js'

const MIB = 2 ** 20

let strata: StrataUnderTest
let s3: TestS3 | undefined
afterEach(async () => {
  await strata.dispose()
  await s3?.remove()
  s3 = undefined
})

/** An answer that is not read yet, on a connection of its own. */
async function unread(path: string, headers: Record<string, string> = {}): Promise<IncomingMessage> {
  const request = httpRequest({ socketPath: strata.socket, path, agent: false, headers }).end()
  const [answer] = (await once(request, 'response')) as [IncomingMessage]
  answer.on('error', () => undefined)
  return answer
}

/** What a client gets of it, and whether its connection says that this is all. */
async function read(answer: IncomingMessage): Promise<{ bytes: Buffer; isWhole: boolean }> {
  const pieces: Buffer[] = []
  try {
    for await (const piece of answer as AsyncIterable<Buffer>) pieces.push(piece)
  } catch {
    // Broken off.
  }
  return { bytes: Buffer.concat(pieces), isWhole: answer.complete }
}

/** Every route that streams bytes of an image. */
const PATHS = [
  '/v1/archive?image=gone%3A1',
  '/v1/archive?image=gone%3A1&format=oci',
  ...['export', 'file?path=/1', 'file?path=/3'].map((route) => `/v1/images/gone%3A1/${route}`),
]
const PART = { range: `bytes=${MIB}-` }

it.each(['folder', 'minio'] as const)(
  'bytes of an image that is removed while they are read come whole, or the connection is broken off: store %s',
  async (kind) => {
    const why = kind === 'minio' ? whyNoTestS3('minio') : undefined
    if (why !== undefined) throw new Error(why)
    if (kind === 'minio') s3 = await TestS3.start('minio', '/var/tmp')
    strata = await StrataUnderTest.start({
      store: s3 ?? 'folder',
      environment: { STRATA_PREPARE: 'false', STRATA_GC_INTERVAL: 'off' },
    })
    const layers = await Promise.all([1, 2, 3].map((n) => layerOf({ [n]: { content: randomBytes(4 * MIB) } })))
    await loadBusybox(strata, 'gone:1', layers)
    const whole = new Map<string, Buffer>()
    for (const path of PATHS) whole.set(path, (await read(await unread(path))).bytes)

    const answers = await Promise.all(
      PATHS.flatMap((path) => [
        unread(path).then((answer) => ({ path, answer, start: 0 })),
        unread(path, PART).then((answer) => ({ path, answer, start: MIB })),
      ]),
    )
    expect((await strata.request('DELETE', '/v1/images/gone%3A1')).status).toBe(200)
    expect((await strata.request('POST', '/v1/gc')).status).toBe(200)

    let broken = 0
    for (const { path, answer, start } of answers) {
      const { bytes, isWhole } = await read(answer)
      const expected = whole.get(path)!.subarray(start)
      expect(bytes.equals(expected.subarray(0, bytes.length)), path).toBe(true)
      expect({ path, isWhole }).toEqual({ path, isWhole: bytes.length === expected.length })
      if (!isWhole) broken++
    }
    // The layers behind the first were not open yet.
    expect(broken).toBeGreaterThan(0)
    for (const path of PATHS) {
      const again = await strata.request('GET', path, undefined, { headers: PART })
      expect([again.status, again.json<{ code: string }>().code]).toEqual([404, 'image_not_found'])
    }
  },
)
