import type { LoadQuery } from '@strata/api'
import { applyChanges, type TreeImage } from '@strata/images'
import { StrataError } from '@strata/base'
import { expectConfig, HOST_PLATFORM, imageConfigSchema, parsePlatform, parseTagged } from '@strata/oci'

/**
 * What an import says of its image, checked before the first byte of the layer arrives; `undefined`
 * for a load.
 * @throws StrataError `bad_request`, `name_invalid`, `limit_exceeded`
 */
export function importRecipe({
  import: name,
  name: archiveName,
  change,
  message,
  platform,
  timestamp,
}: LoadQuery): { readonly name: string | undefined; readonly recipe: Buffer } | undefined {
  if (name === undefined) {
    if (change.length > 0 || message !== undefined || timestamp !== undefined)
      throw new StrataError('bad_request', 'change, message and timestamp belong to an import: ?import=NAME')
    return undefined
  }
  if (platform === 'all') throw new StrataError('bad_request', 'an import is for one platform, not for all')
  if (archiveName !== undefined) throw new StrataError('bad_request', 'an import has its name in import=, not in name=')
  if (name !== '' && parseTagged(name).digest)
    throw new StrataError('bad_request', `${JSON.stringify(name)} has a digest: an import cannot be given it`)
  // The current time would give the same tree another image each time.
  const tree: TreeImage = {
    platform: platform === undefined ? HOST_PLATFORM : parsePlatform(platform),
    timestamp: timestamp ?? 0,
    message: message ?? 'Imported from -',
    run: { ...applyChanges(change) },
  }
  expectConfig(
    imageConfigSchema.parse({ ...tree.platform, config: tree.run, rootfs: { type: 'layers' } }),
    'the config that the changes make',
  )
  return { name: name === '' ? undefined : name, recipe: Buffer.from(JSON.stringify(tree)) }
}
