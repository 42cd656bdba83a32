import type { IncomingMessage, ServerResponse } from 'node:http'
import { bytesLeft } from '@strata/intake'
import { PROBLEM_TYPE, toProblem } from '@strata/platform'

const DRAIN_BYTES = 64 * 1024 * 1024
const DRAIN_MS = 5_000

/**
 * Answers a request whose body is still on its way. A server that answers and closes while bytes arrive makes the kernel reset the
 * connection, and the client sees the reset, not the answer; so the answer goes out whole, and what comes is read and dropped for a while.
 */
export async function answerEarly(request: IncomingMessage, response: ServerResponse, thrown: unknown): Promise<void> {
  const { body } = toProblem(thrown)
  const text = JSON.stringify(body)
  if (response.destroyed || response.headersSent) {
    response.destroy()
    return
  }
  response.writeHead(body.status, { 'content-type': PROBLEM_TYPE, 'content-length': Buffer.byteLength(text), connection: 'close' })
  response.write(text)
  await drain(request)
  response.end()
}

async function drain(request: IncomingMessage): Promise<void> {
  const most = Math.min(bytesLeft(request) ?? Infinity, DRAIN_BYTES)
  if (request.complete || request.destroyed || most === 0) return
  await new Promise<void>((resolve) => {
    let left = most
    const done = (): void => {
      clearTimeout(timer)
      request.off('data', onData).off('end', done).off('close', done).off('error', done)
      resolve()
    }
    const onData = (piece: Buffer): void => {
      left -= piece.length
      if (left <= 0) done()
    }
    const timer = setTimeout(done, DRAIN_MS)
    request.unpipe()
    request.on('data', onData).once('end', done).once('close', done).once('error', done)
    request.resume()
  })
}
