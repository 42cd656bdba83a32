import type { Deprecation } from '@strata/images'
import { familiarReference, type Repository } from '@strata/oci'
import type { ManifestReference } from './names.js'

/**
 * The header `Warning` of a manifest that is marked as deprecated, or no header (distribution-spec
 * after 1.1.1, "Warnings": code 299, agent `-`, no date, at most 4,096 bytes). It names what the
 * client asked for. The text needs no escapes, and has less than 500 bytes: repository, tag and
 * digest follow their grammars.
 */
export function warningOf(
  deprecated: Deprecation | undefined,
  repository: Repository,
  reference: ManifestReference,
  now = new Date(),
): { readonly warning?: string } {
  const { endOfLife } = deprecated ?? {}
  if (!deprecated || (endOfLife !== undefined && endOfLife > now.toISOString().slice(0, 10))) return {}
  const name = familiarReference({ repository, tag: undefined, digest: undefined, ...reference })
  return { warning: `299 - "${name} is deprecated${endOfLife === undefined ? '' : ` (end of life: ${endOfLife})`}"` }
}
