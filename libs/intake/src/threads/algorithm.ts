import type { Algorithm } from '@strata/oci'

const BY_SHA512 = /^(?:\.\/)*blobs\/sha512\/[0-9a-f]{128}$/

/**
 * By which digest a file of an archive is to be known: an OCI layout's blobs say it by their names
 * (image-spec, image-layout.md), everything else is known by its sha256.
 */
export function algorithmOfName(path: Buffer): Algorithm {
  return BY_SHA512.test(path.toString('latin1')) ? 'sha512' : 'sha256'
}
