import { asStrataError, toldToCaller, type ErrorCode } from '@strata/base'
import { PROBLEMS, retryHeaders, type ErrorForm } from '@strata/platform'

/**
 * The codes of the specification (distribution-spec, "Error Codes"), and docker's codes for the
 * rest.
 */
type RegistryCode =
  | 'BLOB_UNKNOWN'
  | 'BLOB_UPLOAD_INVALID'
  | 'BLOB_UPLOAD_UNKNOWN'
  | 'DIGEST_INVALID'
  | 'MANIFEST_BLOB_UNKNOWN'
  | 'MANIFEST_INVALID'
  | 'MANIFEST_UNKNOWN'
  | 'NAME_INVALID'
  | 'NAME_UNKNOWN'
  | 'SIZE_INVALID'
  | 'UNAUTHORIZED'
  | 'TOOMANYREQUESTS'
  | 'UNSUPPORTED'
  | 'UNAVAILABLE'
  | 'UNKNOWN'

/** The one table from our codes to the registry's. What is not here is UNKNOWN. */
const CODES: Readonly<Partial<Record<ErrorCode, RegistryCode>>> = {
  repository_not_found: 'NAME_UNKNOWN',
  manifest_not_found: 'MANIFEST_UNKNOWN',
  blob_not_found: 'BLOB_UNKNOWN',
  upload_not_found: 'BLOB_UPLOAD_UNKNOWN',
  upload_interrupted: 'BLOB_UPLOAD_INVALID',
  request_timeout: 'BLOB_UPLOAD_INVALID',
  range_invalid: 'BLOB_UPLOAD_INVALID',
  digest_invalid: 'DIGEST_INVALID',
  digest_mismatch: 'DIGEST_INVALID',
  layer_missing: 'MANIFEST_BLOB_UNKNOWN',
  not_an_image: 'MANIFEST_INVALID',
  unsupported: 'MANIFEST_INVALID',
  name_invalid: 'NAME_INVALID',
  limit_exceeded: 'SIZE_INVALID',
  unauthorized: 'UNAUTHORIZED',
  not_found: 'UNSUPPORTED',
  bad_request: 'UNSUPPORTED',
  overloaded: 'TOOMANYREQUESTS',
  store_unavailable: 'UNAVAILABLE',
  queue_unavailable: 'UNAVAILABLE',
}

/**
 * Statuses that clients of registries expect, where `/v1` has others. Not 429 for `overloaded`:
 * docker gives a push up at a 429, and tries again after a 503.
 */
const STATUSES: Readonly<Partial<Record<ErrorCode, number>>> = {
  unsupported: 400,
}

/**
 * An error in the form of the registry API. `detail` has the code that `/v1` has for the same
 * error.
 */
export const registryErrors: ErrorForm = (thrown) => {
  const error = asStrataError(thrown)
  const { code, message } = toldToCaller(error)
  return {
    status: STATUSES[code] ?? PROBLEMS[code].status,
    headers: {
      'content-type': 'application/json',
      'docker-distribution-api-version': 'registry/2.0',
      ...retryHeaders(code),
      ...(code === 'unauthorized' ? { 'www-authenticate': 'Basic realm="strata"' } : {}),
    },
    body: JSON.stringify({ errors: [{ code: CODES[code] ?? 'UNKNOWN', message, detail: { code } }] }),
  }
}
