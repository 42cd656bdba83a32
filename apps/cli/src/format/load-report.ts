import type { LoadResult } from '@strata/api'
import { humanSize } from './units.js'

const FORMATS: Readonly<Record<NonNullable<LoadResult['found']>['format'], string>> = {
  'docker-v1': 'archive of docker’s first form',
  docker: 'docker archive',
  oci: 'OCI image layout',
  'docker+oci': 'docker archive and OCI image layout',
}

/** What an archive was and brought: a line, and one more for each image that is not all there. */
export function loadReport(
  images: LoadResult['images'],
  { format, writer, layers }: NonNullable<LoadResult['found']>,
): string {
  const of = [FORMATS[format], ...(writer === undefined ? [] : [`written by ${writer}`])].join(' ')
  const parts = [
    number(images.length, 'image'),
    `${number(layers.new.count, 'new layer')} (${humanSize(layers.new.bytes)})`,
    ...(layers.known.count > 0 ? [`${layers.known.count} already here (${humanSize(layers.known.bytes)} saved)`] : []),
  ]
  const missing = images.flatMap((image) =>
    image.missing
      ? [
          `${image.names[0] ?? image.id} is here for ${image.platforms?.join(', ') ?? ''}; not in the archive: ${image.missing.join(', ')}`,
        ]
      : [],
  )
  return [`${of}: ${parts.join(', ')}`, ...missing].join('\n')
}

function number(count: number, of: string): string {
  return `${count} ${of}${count === 1 ? '' : 's'}`
}
