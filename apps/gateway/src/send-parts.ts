import type { ServerResponse } from 'node:http'
import { orAborted, StrataError } from '@strata/base'
import { sendFile } from '@strata/linux'
import { countSent } from '@strata/platform'
import type { FilePart } from '@strata/store'

/** A part of a body: bytes, or a part of an open file. */
export type BodyPart = Uint8Array | FilePart

/** In bytes. */
export function lengthOf(part: BodyPart): number {
  return part instanceof Uint8Array ? part.length : part.end - part.start
}

/**
 * Bytes of a file that go through memory each time that the client is waited for. A client that
 * stands still holds this much.
 */
const CHUNK = 64 * 1024
/** Bytes that are sent within the kernel by one call. */
const SEND = 1024 * 1024
/** Bytes that are read of a file at a time where it cannot be sent within the kernel. */
const READ = 256 * 1024

/**
 * Sends the parts as the rest of an answer whose head was written with its length, and ends it.
 * Resolves when the kernel has all of it. When the client has left (`gone`), it asks for no further
 * part, and rejects or resolves.
 *
 * Parts of files go within the kernel (sendfile(2)), which takes no memory and half of the
 * processor time. Over TLS they are read.
 *
 * **How it waits for a client** that reads slower than the disk. The socket is full when it takes
 * less than it was given. Then the next bytes of the file are read and written through Node. Node
 * reports the end of that write when the kernel has taken all of it, so there is room again. No
 * thread waits, nothing is polled, and whoever watches Node's write (`STRATA_UNREAD_TIMEOUT_MS`)
 * sees a client that takes nothing.
 *
 * Each part is lent: the next one is asked for when the kernel has all of the one before. So bytes
 * of the two ways never mix.
 */
export async function sendParts(
  parts: AsyncIterable<BodyPart>,
  response: ServerResponse,
  gone: AbortSignal,
): Promise<void> {
  // The connection is closed as well, and `gone` says so.
  response.on('error', () => undefined)
  for await (const part of parts) {
    if (part instanceof Uint8Array) await write(part, response, gone)
    else await sendFilePart(part, response, gone)
  }
  await orAborted(new Promise<void>((resolve) => response.end(resolve)), gone)
}

async function sendFilePart({ file, start, end }: FilePart, response: ServerResponse, gone: AbortSignal) {
  const chunk = Buffer.allocUnsafe(Math.min(CHUNK, end - start))
  for (let at = start; at < end;) {
    const { bytesRead } = await file.read(chunk, 0, Math.min(chunk.length, end - at), at)
    if (bytesRead === 0) throw endsEarly(at, end)
    await write(chunk.subarray(0, bytesRead), response, gone)
    at += bytesRead
    for (let isFull = false; at < end && !isFull;) {
      gone.throwIfAborted()
      const wanted = Math.min(end - at, SEND)
      const sent = response.socket ? await sendFile(response.socket, file.fd, at, wanted) : undefined
      if (sent === undefined) return sendStream({ file, start: at, end }, response, gone)
      countSent(response.req, sent)
      at += sent
      isFull = sent < wanted
    }
  }
}

/** The length was promised: the connection must end, or the client waits for the rest on it. */
function endsEarly(at: number, end: number): StrataError {
  return new StrataError('corrupt', `a file of the store ends at ${at}, before ${end}`)
}

async function sendStream({ file, start, end }: FilePart, response: ServerResponse, gone: AbortSignal) {
  const stream = file.createReadStream({ start, end: end - 1, autoClose: false, highWaterMark: READ })
  let at = start
  for await (const bytes of stream as AsyncIterable<Buffer>) {
    await write(bytes, response, gone)
    at += bytes.length
  }
  if (at < end) throw endsEarly(at, end)
}

/** Resolves when the kernel has taken the bytes. */
async function write(bytes: Uint8Array, response: ServerResponse, gone: AbortSignal): Promise<void> {
  if (bytes.length === 0) return
  gone.throwIfAborted()
  const written = new Promise<void>((resolve, reject) => {
    response.write(bytes, (error) => (error ? reject(error) : resolve()))
  })
  await orAborted(written, gone)
}
