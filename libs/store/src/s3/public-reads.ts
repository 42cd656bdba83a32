import { checkKey } from '../keys.js'
import type { PresignedReads } from '../objects/object-store.js'
import { S3Client, type S3Config } from './s3-client.js'

/**
 * Addresses at the S3 server's public endpoint, for clients that read objects themselves.
 * `endpoint` is the public one: the signature covers the host's name, so an address that was signed
 * for the endpoint of the services cannot be rewritten. Nothing is asked of the server.
 */
export function publicReads(config: S3Config): PresignedReads {
  const client = new S3Client(config)
  return { presignedGet: (key, seconds) => client.presign('GET', checkKey(key), seconds) }
}
