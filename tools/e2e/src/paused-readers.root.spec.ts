import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { loadBusybox } from './testing/busybox-image.js'
import { StrataUnderTest, until } from './testing/strata.js'

let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start({ environment: { STRATA_UNREAD_TIMEOUT_MS: '500' } })
  await loadBusybox(strata, 'pause:1')
})
afterAll(async () => {
  await strata.dispose()
})

/** An answer of which nothing is read yet, on a connection of its own. */
async function unread(path: string): Promise<IncomingMessage> {
  const request = httpRequest({ socketPath: strata.socket, path, agent: false }).end()
  const [answer] = (await once(request, 'response')) as [IncomingMessage]
  answer.on('error', () => undefined)
  return answer
}

/** Connections that the gateway's socket has open, by the kernel's list. */
function connections(): number {
  return readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .filter((line) => line.endsWith(` ${strata.socket}`)).length
}

async function bytesOf(answer: IncomingMessage): Promise<number> {
  let bytes = 0
  for await (const piece of answer as AsyncIterable<Buffer>) bytes += piece.length
  return bytes
}

it('who reads logs or a file may pause for longer than other answers may stay unread, and loses nothing', async () => {
  const script = 'head -c 20000000 /dev/zero'
  const { id } = (
    await strata.request('POST', '/v1/containers', { image: 'pause:1', command: ['sh', '-c', script] })
  ).json<{ id: string }>()
  await strata.request('POST', `/v1/containers/${id}/wait`)
  const logs = await unread(`/v1/containers/${id}/logs?stream=stdout`)
  const file = await unread(`/v1/images/pause%3A1/file?path=/bin/busybox`)
  // The listener, and these two.
  await expect.poll(connections).toBe(3)
  // Asked for last: when it is cut off, the others have paused for longer. A client that reads
  // nothing does not see the end.
  const archive = await unread('/v1/archive?image=pause%3A1')
  await until(() => connections() === 3, 'the archive is cut off')
  await expect(bytesOf(archive)).rejects.toThrow()
  expect(await bytesOf(logs)).toBe(20_000_000)
  expect(logs.complete).toBe(true)
  expect(await bytesOf(file)).toBe(Number(file.headers['content-length']))
})
