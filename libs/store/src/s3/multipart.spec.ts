import { expect, it } from 'vitest'
import { Multipart } from './multipart.js'
import { UNIT } from './part-plan.js'
import type { S3Client } from './s3-client.js'

/** A server that takes no part until it is told to. */
function standingServer(): { client: S3Client; sending: () => number; answer: () => void } {
  let sending = 0
  const answered = Promise.withResolvers<undefined>()
  const client = {
    attempt: (work: () => Promise<unknown>) => work(),
    send: async () => {
      sending++
      await answered.promise
      sending--
      return { headers: { etag: '"x"' } }
    },
  }
  return {
    client: client as unknown as S3Client,
    sending: () => sending,
    answer: () => answered.resolve(undefined),
  }
}
const PART = { bytes: [], length: UNIT, release: () => undefined }

it.each([
  ['one upload sends three parts at a time', 1, 3],
  ['a few send three each', 10, 30],
  ['many send as many as fit into 256 MiB together', 20, 32],
  ['each sends one at least', 100, 100],
])('to a server that stands still, %s; then all of them go on', async (_, uploads, most) => {
  const { client, sending, answer } = standingServer()
  const open = Array.from({ length: uploads }, (_, at) =>
    Multipart.resume(client, { key: `data/x/${at}`, uploadId: 'x', parts: [] }),
  )
  const adding = open.map(async (upload) => {
    for (let part = 0; part < 5; part++) await upload.add(PART)
    return upload.settled()
  })
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve))
  expect(sending()).toBe(most)
  answer()
  for (const { parts } of await Promise.all(adding)) expect(parts).toHaveLength(5)
  expect(sending()).toBe(0)
})
