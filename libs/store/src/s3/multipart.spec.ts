import { expect, it } from 'vitest'
import { Multipart } from './multipart.js'
import type { S3Client } from './s3-client.js'

/** What a server answers that has begun an upload, and completes it. */
const XML = {
  begun: '<InitiateMultipartUploadResult><UploadId>x</UploadId></InitiateMultipartUploadResult>',
  completed: '<CompleteMultipartUploadResult><ETag>"x-5"</ETag></CompleteMultipartUploadResult>',
}

/** An upload to a server that does with each part what the test says. */
async function uploadTo(takePart: () => Promise<void>): Promise<Multipart> {
  const client = {
    attempt: (work: (unsure: boolean) => Promise<unknown>) => work(false),
    send: async ({ query = {} }: { query?: Record<string, string> }) => {
      if ('partNumber' in query) await takePart()
      return { headers: { etag: '"x"' }, text: 'uploads' in query ? XML.begun : XML.completed }
    },
  }
  return Multipart.begin(client as unknown as S3Client, 'data/x/1', undefined)
}

it('sends three parts at a time to a server that stands still, then the others', async () => {
  let sending = 0
  const answered = Promise.withResolvers<undefined>()
  const upload = await uploadTo(async () => {
    sending++
    await answered.promise
    sending--
  })
  let released = 0
  const adding = (async () => {
    for (let part = 0; part < 5; part++) await upload.add({ bytes: [], length: 1, release: () => released++ })
    return upload.complete()
  })()
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve))
  expect(sending).toBe(3)
  expect(released).toBe(0)
  answered.resolve(undefined)
  expect(await adding).toEqual({ size: 5, etag: 'x-5' })
  expect([sending, released]).toEqual([0, 5])
})

it('gives back a part that it cannot send any more', async () => {
  const upload = await uploadTo(() => Promise.reject(new Error('broken')))
  let released = 0
  const add = async (): Promise<void> => upload.add({ bytes: [], length: 1, release: () => released++ })
  await add()
  await expect(upload.complete()).rejects.toThrow('broken')
  await expect(add()).rejects.toThrow('broken')
  expect(released).toBe(2)
})
