import type { IncomingMessage } from 'node:http'
import { DESCRIPTOR_TYPE, descriptorSchema, type Descriptor } from '@strata/api'
import { StrataError } from '@strata/base'

/** Whether the request's body names a file descriptor of the client, by its content type. */
export function namesDescriptor(request: IncomingMessage): boolean {
  return request.headers['content-type']?.split(';')[0]?.trim().toLowerCase() === DESCRIPTOR_TYPE
}

/**
 * The file descriptor that a body names.
 * @param body parsed from JSON
 * @throws StrataError `bad_request`
 */
export function parseDescriptor(body: unknown): Descriptor {
  const named = descriptorSchema.safeParse(body)
  if (named.success) return named.data
  throw new StrataError(
    'bad_request',
    `the body names no descriptor: ${named.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')}`,
  )
}
