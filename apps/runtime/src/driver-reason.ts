import type { CreatedSnapshotter, SnapshotterOptions } from '@strata/snapshots'

/**
 * For people: why the node has the storage driver it has, and what stood in the way of better ones.
 */
export function driverReason(
  { driver, variants = {} }: Pick<SnapshotterOptions, 'driver' | 'variants'>,
  { chosen, probes }: Pick<CreatedSnapshotter, 'chosen' | 'probes'>,
): string {
  const asked = [
    ...(driver === undefined ? [] : [`STRATA_SNAPSHOTTER=${driver}`]),
    ...(variants.erofs === undefined ? [] : [`STRATA_EROFS=${variants.erofs}`]),
  ]
  const better = probes
    .slice(0, probes.indexOf(chosen))
    .filter(({ ok }) => !ok)
    .map(({ title, reason }) => `${title} does not work here: ${reason}`)
  return [
    `${chosen.title}: ${chosen.reason}`,
    ...(asked.length > 0 ? [`asked for by ${asked.join(' ')}`] : []),
    ...better,
  ].join('; ')
}
