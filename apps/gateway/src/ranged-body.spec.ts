import { createServer, get, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { StrataError } from '@strata/base'
import { expect, it } from 'vitest'
import { sendRanged } from './ranged-body.js'

const SIZE = 1024 * 1024

/** What a client gets of these pieces; `thrown` is what the route would have to answer. */
async function answerOf(pieces: () => AsyncGenerator<Uint8Array>, method = 'GET') {
  let thrown: unknown
  const server = createServer((request, response) => {
    sendRanged(request, response, { size: SIZE, etag: 'x', type: 'text/plain', parts: pieces }).catch(
      (error: unknown) => {
        thrown = error
        response.writeHead(500).end()
      },
    )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    const { port } = server.address() as AddressInfo
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      get({ host: '127.0.0.1', port, method, agent: false }, resolve).on('error', reject)
    })
    const length = await buffer(answer).then(
      (bytes) => bytes.length,
      () => 'broken off',
    )
    return { status: answer.statusCode, length, thrown }
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

const missing = new StrataError('not_found', 'blob sha256:… is not in the store')

it('what is missing at the beginning is an error of the request, not a connection that is closed', async () => {
  const found = await answerOf(async function* () {
    // A header, as archives begin with.
    yield await Promise.resolve(Buffer.alloc(512))
    throw missing
  })
  expect(found).toMatchObject({ status: 500, thrown: { code: 'corrupt' } })
})

it('a body that is read is sent whole, its beginning too', async () => {
  const pieces = async function* () {
    for (let at = 0; at < SIZE; at += 1000) yield await Promise.resolve(Buffer.alloc(Math.min(1000, SIZE - at)))
  }
  expect(await answerOf(pieces)).toMatchObject({ status: 200, length: SIZE, thrown: undefined })
  expect(await answerOf(pieces, 'HEAD')).toMatchObject({ status: 200, length: 0, thrown: undefined })
})

it.each([
  ['ends too early', SIZE / 2],
  ['has one byte too few', SIZE - 1],
  ['goes on too long', SIZE + 1000],
])('a body that %s without an error is broken off as well', async (_, length) => {
  const found = await answerOf(async function* () {
    const piece = 1000
    for (let at = 0; at < length; at += piece) yield await Promise.resolve(Buffer.alloc(Math.min(piece, length - at)))
  })
  expect(found).toMatchObject({ status: 200, length: 'broken off', thrown: undefined })
})

it('what goes missing later breaks the body off before the length that was promised', async () => {
  const found = await answerOf(async function* () {
    yield await Promise.resolve(Buffer.alloc(SIZE / 2))
    throw missing
  })
  expect(found).toMatchObject({ status: 200, length: 'broken off', thrown: undefined })
})
