import type { ArchiveListing } from './listing.js'

/**
 * What `decodeListing` reads. In a file of its own, for the threads that write listings are started
 * faster without the schemas.
 */
export function encodeListing(listing: ArchiveListing): Buffer {
  return Buffer.from(JSON.stringify(listing))
}
