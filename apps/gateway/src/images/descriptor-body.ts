import type { IncomingMessage } from 'node:http'
import { DESCRIPTOR_TYPE, descriptorSchema, type Descriptor } from '@strata/api'
import { StrataError } from '@strata/oci'

const MOST_BYTES = 4096

export function namesDescriptor(request: IncomingMessage): boolean {
  return request.headers['content-type']?.split(';')[0]?.trim().toLowerCase() === DESCRIPTOR_TYPE
}

/** @throws StrataError `bad_request` */
export async function readDescriptor(request: IncomingMessage): Promise<Descriptor> {
  const pieces: Buffer[] = []
  let size = 0
  // Not to the iterator to destroy: the answer goes over the same connection.
  for await (const piece of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    pieces.push(piece)
    size += piece.length
    if (size > MOST_BYTES) throw new StrataError('bad_request', 'a descriptor is named in a few bytes')
  }
  const named = descriptorSchema.safeParse(parsed(Buffer.concat(pieces).toString()))
  if (named.success) return named.data
  throw new StrataError('bad_request', `the body names no descriptor: ${named.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')}`)
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
