import { expect, it } from 'vitest'
import { Multipart } from './multipart.js'
import type { S3Client } from './s3-client.js'

it('sends three parts at a time to a server that stands still, then the others', async () => {
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
  const upload = Multipart.resume(client as unknown as S3Client, { key: 'data/x/1', uploadId: 'x', parts: [] })
  let released = 0
  const adding = (async () => {
    for (let part = 0; part < 5; part++) await upload.add({ bytes: [], length: 1, release: () => released++ })
    return upload.settled()
  })()
  for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve))
  expect(sending).toBe(3)
  expect(released).toBe(0)
  answered.resolve(undefined)
  expect((await adding).parts).toHaveLength(5)
  expect([sending, released]).toEqual([0, 5])
})

it('gives back a part that it cannot send any more', async () => {
  const client = {
    attempt: (work: () => Promise<unknown>) => work(),
    send: () => Promise.reject(new Error('broken')),
  }
  const upload = Multipart.resume(client as unknown as S3Client, { key: 'data/x/1', uploadId: 'x', parts: [] })
  let released = 0
  const add = async (): Promise<void> => upload.add({ bytes: [], length: 1, release: () => released++ })
  await add()
  await expect(upload.settled()).rejects.toThrow('broken')
  await expect(add()).rejects.toThrow('broken')
  expect(released).toBe(2)
})
