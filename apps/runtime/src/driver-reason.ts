import type { ProbeResult, SnapshotterOptions } from '@strata/snapshots'

/**
 * For people: why the node has the storage driver it has, and what stood in the way of better ones.
 */
export function driverReason(
  { driver, erofs }: Pick<SnapshotterOptions, 'driver' | 'erofs'>,
  tried: readonly ProbeResult[],
): string {
  const asked = [
    ...(driver === undefined ? [] : [`STRATA_SNAPSHOTTER=${driver}`]),
    ...(erofs === undefined ? [] : [`STRATA_EROFS=${erofs}`]),
  ]
  const fits = (one: ProbeResult): boolean =>
    (driver === undefined || one.driver === driver) &&
    (erofs === undefined || one.driver !== 'erofs' || one.erofs === erofs)
  const chosen = tried.findIndex((one) => one.ok && fits(one))
  const better = tried
    .slice(0, Math.max(chosen, 0))
    .filter((one) => !one.ok)
    .map((one) => `${nameOf(one)} does not work here: ${one.reason}`)
  const seen = tried[chosen]
  return [
    ...(seen ? [`${nameOf(seen)}: ${seen.reason}`] : []),
    ...(asked.length > 0 ? [`asked for by ${asked.join(' ')}`] : []),
    ...better,
  ].join('; ')
}

function nameOf(one: ProbeResult): string {
  return one.driver === 'erofs' ? `erofs from ${one.erofs === 'file' ? 'files' : 'loop devices'}` : one.driver
}
