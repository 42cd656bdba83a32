import { StrataError } from '@strata/base'
import { HOST_PLATFORM, matchesPlatform, type Digest, type Platform } from '@strata/oci'
import type { ArchiveImage } from './image-archive.js'
import type { ArchiveListing } from '../listing.js'
import { resolveDocker } from './resolve-docker.js'
import { isDockerV1, resolveDockerV1 } from './resolve-docker-v1.js'
import { ArchiveFiles, type ReadSmall, type ResolveLimits } from './resolve-files.js'
import { nameAs, type ResolvedImage } from './resolve-names.js'
import { layoutManifests, notForText, resolveLayout } from './resolve-oci.js'
import { resolveWholeLayout } from './resolve-whole.js'

export interface ResolveOptions extends Partial<ResolveLimits> {
  /**
   * The caller's name for the archive's one image, in place of those written in it. Without a tag
   * it takes the bare tag the archive gives, else `latest`. With several images in the archive:
   * `bad_request`.
   */
  readonly name?: string
  /**
   * Which of an image's platforms is wanted: then no other is taken. `all`: the image is kept as
   * its index has it, with what is attached to it. By default this machine's, or the only one that
   * the archive has.
   */
  readonly platform?: Platform | 'all'
  /** In this machine's stead. */
  readonly host?: Platform
  /**
   * Whether the store has a layer that an OCI layout names and leaves out (`strata save --since`);
   * without it none is there.
   */
  readonly isKept?: (digest: Digest, size: number) => Promise<boolean>
}

/**
 * Finds the images of an archive: docker's before 1.10, its later form (to 24), OCI layouts, and
 * both in one (docker 25 and later), by any tool.
 *
 * What it gives has been checked as far as the archive alone can say: every file named is in the
 * archive, digests are those computed in flight, each image has as many layers as its config lists,
 * a plain layer is the one that its config lists. A packed layer's diffID is the config's claim
 * until it has been inflated. Files that no image names are not looked at.
 *
 * Errors: `not_an_image`, `archive_invalid`, `digest_mismatch`, `layer_missing`, `limit_exceeded`,
 * `name_invalid`, `unsupported`, `bad_request`, and a layer's own `layerError`.
 */
export async function resolveArchive(
  listing: ArchiveListing,
  readSmall: ReadSmall,
  options: ResolveOptions = {},
): Promise<ArchiveImage[]> {
  const { platform, host = HOST_PLATFORM, isKept = () => Promise.resolve(false), maxJson, maxNames } = options
  const files = new ArchiveFiles(listing, readSmall, isKept, {
    ...(maxJson === undefined ? {} : { maxJson }),
    ...(maxNames === undefined ? {} : { maxNames }),
  })
  const index = files.find('index.json')
  const legacy = files.find('manifest.json')
  let images: ResolvedImage[] = []
  // `manifest.json` lists one platform of each image; who asks for another wants the layout, where
  // there is one.
  if (legacy && !(platform && index))
    images = await resolveDocker(files, legacy, index ? await layoutManifests(files, index) : [])
  if (images.length === 0 && index)
    images = await (platform === 'all'
      ? resolveWholeLayout(files, index, host)
      : resolveLayout(files, index, platform ? { asked: platform } : { host }))
  if (images.length === 0 && legacy && index) images = await resolveDocker(files, legacy, [])
  if (!legacy && !index && isDockerV1(files)) images = await resolveDockerV1(files)
  files.expectFew(images.length, 'images')
  if (images.length === 0) throw notAnImage(files, Boolean(legacy ?? index))
  if (platform && platform !== 'all') expectPlatform(images, platform)
  return options.name === undefined ? images.map(({ image }) => image) : nameAs(images, options.name)
}

function expectPlatform(images: readonly ResolvedImage[], wanted: Platform): void {
  for (const { image } of images)
    if (!matchesPlatform(image.platform, wanted))
      throw new StrataError('unsupported', notForText([image.platform], [], wanted))
}

const ROOT_FOLDERS = new Set([
  'bin',
  'boot',
  'dev',
  'etc',
  'home',
  'lib',
  'opt',
  'proc',
  'root',
  'sbin',
  'sys',
  'tmp',
  'usr',
  'var',
])

function notAnImage(files: ArchiveFiles, listsNone: boolean): StrataError {
  if (listsNone) return new StrataError('not_an_image', 'the archive lists no image')
  const tops = files.topNames()
  if (tops.length === 0) return new StrataError('not_an_image', 'the archive is empty')
  const lacks = 'it has neither manifest.json nor index.json'
  const folders = tops.filter((name) => ROOT_FOLDERS.has(name))
  if (folders.length >= 2) {
    return new StrataError(
      'not_an_image',
      `the archive looks like a root file system (${folders.slice(0, 5).join(', ')}), not like an image: ${lacks}`,
    )
  }
  return new StrataError('not_an_image', `the archive is not an image: ${lacks}`)
}
