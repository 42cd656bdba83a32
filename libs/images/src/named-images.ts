import { familiarReference } from '@strata/oci'
import type { ImageKey } from '@strata/store'
import type { NamedImage } from './image.js'
import type { NameEntry } from './name-entry.js'
import { united } from './whole.js'

/** The name in the form that `rmi` takes and people read. */
export function textOfName(name: ImageKey): string {
  const { repository, digest } = name
  if (digest === undefined) return familiarReference(name)
  return repository === undefined ? digest : familiarReference({ repository, tag: undefined, digest })
}

/**
 * One image for each manifest's digest among the entries: those with names first, then the newest
 * first.
 */
export function groupByImage(entries: readonly NameEntry[]): NamedImage[] {
  const images = Object.values(Object.groupBy(entries, ({ image }) => image.digest)).map((group) => ({
    ...group!.map(({ image }) => image).reduce(united),
    names: namesOf(group!),
  }))
  return images.sort(
    (a, b) =>
      Number(b.names.length > 0) - Number(a.names.length > 0) ||
      compare(b.created ?? '', a.created ?? '') ||
      compare(a.digest, b.digest),
  )
}

/** The tags among the entries, in short form, sorted. */
export function namesOf(entries: readonly NameEntry[]): string[] {
  return entries.flatMap(({ name }) => (name.tag ? [familiarReference(name)] : [])).sort()
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
