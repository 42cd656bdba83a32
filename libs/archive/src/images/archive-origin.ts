import type { ARCHIVE_FORMATS } from '@strata/oci'
import type { ArchiveListing } from '../listing.js'

/** What an archive is, for people: nothing is decided by it. */
export interface ArchiveOrigin {
  readonly format: (typeof ARCHIVE_FORMATS)[number]
  /** Who wrote it, where its names show that. Tools of one library write alike. */
  readonly writer?: string
}

const HEX = '[0-9a-f]{64}'
const [CONFIG_BY_DIGEST, LAYER_AT_TOP, LAYER_IN_FOLDER, PACKED_BLOB] = [
  `^sha256:${HEX}$`,
  `^${HEX}\\.tar$`,
  `^${HEX}/layer\\.tar$`,
  `^blobs/sha256/${HEX}\\.tar\\.gz$`,
].map((pattern) => new RegExp(pattern)) as [RegExp, RegExp, RegExp, RegExp]

/** Of an archive that has images. */
export function originOf({ entries }: ArchiveListing): ArchiveOrigin {
  const names = entries.map(({ name }) => name.replace(/^(?:\.\/)+/, ''))
  const all = new Set(names)
  const format = all.has('manifest.json')
    ? all.has('index.json')
      ? 'docker+oci'
      : 'docker'
    : all.has('index.json')
      ? 'oci'
      : 'docker-v1'
  const writer = writerOf(format, names, all)
  return { format, ...(writer === undefined ? {} : { writer }) }
}

function writerOf(
  format: ArchiveOrigin['format'],
  names: readonly string[],
  all: ReadonlySet<string>,
): string | undefined {
  if (format === 'docker-v1') return 'docker before 1.10'
  if (format === 'oci') return undefined
  // Nobody else has what leads to the rest at the front.
  if (names.slice(0, 3).join() === 'oci-layout,index.json,manifest.json') return 'strata'
  if (format === 'docker+oci')
    return all.has('repositories') ? 'docker 25 or later' : 'containerd (docker, nerdctl, ctr)'
  const has = (pattern: RegExp): boolean => names.some((name) => pattern.test(name))
  if (has(CONFIG_BY_DIGEST)) return 'go-containerregistry (crane, kaniko)'
  if (has(PACKED_BLOB)) return 'rules_oci (bazel)'
  if (has(LAYER_AT_TOP)) return 'containers/image (podman, skopeo, buildah)'
  return has(LAYER_IN_FOLDER) ? 'docker 1.10 to 24' : undefined
}
