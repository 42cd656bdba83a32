import type { IncomingMessage, ServerResponse } from 'node:http'
import { LINGER_MS } from '../listener/turns.js'
import { problemForm, type ErrorForm } from './errors/error-form.js'
import { noteFailure } from './errors/failures.js'

/*
 * Answers to requests whose body is still on its way. A server that answers and closes while bytes
 * arrive makes the kernel reset the connection, and the client sees the reset, not the answer. So
 * the answer goes out whole, and the connection stays open until the client closes it, LINGER_MS at
 * most.
 */

/** What a client may still send that writes its whole body before it reads. */
const DROPPED_BYTES = 64 * 1024 * 1024

/** Whether a request's headers announce a body. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

/**
 * Answers with an error, and reads and drops what still comes of the body. Why it failed is logged
 * as of any other request (`noteFailure`).
 *
 * @param left bytes that are still to come, where the HTTP parser cannot know it
 */
export async function answerEarly(
  request: IncomingMessage,
  response: ServerResponse,
  thrown: unknown,
  left = Infinity,
  form: ErrorForm = problemForm,
): Promise<void> {
  noteFailure(response, thrown, form(thrown).status)
  if (!writeError(response, form, thrown)) return
  await drop(request, Math.min(left, DROPPED_BYTES))
  response.end()
}

/**
 * Answers what a handler has thrown. If the client still sends its body, that is dropped.
 */
export async function answerError(
  request: IncomingMessage,
  response: ServerResponse,
  thrown: unknown,
  form: ErrorForm,
): Promise<void> {
  if (!request.complete) return answerEarly(request, response, thrown, Infinity, form)
  const { status, headers, body } = form(thrown)
  noteFailure(response, thrown, status)
  if (response.headersSent || response.destroyed) response.destroy()
  else response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) }).end(body)
}

/**
 * Answers with an error, and reads nothing more: for clients that are not authenticated. What they
 * send stays in the kernel.
 */
export function answerUnread(
  request: IncomingMessage,
  response: ServerResponse,
  thrown: unknown,
  form: ErrorForm = problemForm,
): void {
  if (!writeError(response, form, thrown)) return
  // Not ended: Node would then read the body, to drop it.
  const timer = setTimeout(() => request.socket.destroy(), LINGER_MS)
  request.socket.once('close', () => clearTimeout(timer))
}

/** The whole answer but its end. False where there is nobody to answer, or no more room for it. */
function writeError(response: ServerResponse, form: ErrorForm, thrown: unknown): boolean {
  if (response.destroyed || response.headersSent) {
    response.destroy()
    return false
  }
  const { status, headers, body } = form(thrown)
  response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body), connection: 'close' })
  response.write(body)
  // The answer to HEAD has no body, and without this its headers would wait for its end.
  response.flushHeaders()
  return true
}

async function drop(request: IncomingMessage, most: number): Promise<void> {
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
    const timer = setTimeout(done, LINGER_MS)
    request.unpipe()
    request.on('data', onData).once('end', done).once('close', done).once('error', done)
    request.resume()
  })
}
