import type { Tasks } from '../threads/messages.js'
import type { Driver, DriverContext } from './driver.js'

interface DriverRow {
  /** The driver's name, also in `STRATA_SNAPSHOTTER`. */
  readonly name: string
  /** The ways in which the driver works. Each is probed and chosen by itself. */
  readonly variants: readonly {
    readonly name: string
    /** For people, and in the table of docs/storage.md. */
    readonly title: string
  }[]
  /** Folders beside those of the bookkeeping, for what several roots share. */
  readonly folders: readonly string[]
  readonly open: () => Promise<(context: DriverContext) => Driver>
  /** What the driver does in threads. */
  readonly tasks: () => Promise<Tasks>
}

/**
 * The storage drivers, the best first: a node probes them in this order. Code is loaded when it is
 * needed, because threads and the configuration read this table as well.
 */
export const DRIVERS = [
  {
    name: 'erofs',
    variants: [
      { name: 'file', title: 'erofs on files' },
      { name: 'loop', title: 'erofs on loop devices' },
    ],
    folders: [],
    open: async () => (await import('./erofs/erofs-driver.js')).openErofs,
    tasks: async () => (await import('./erofs/tasks.js')).tasks,
  },
  {
    name: 'overlay',
    variants: [{ name: 'overlay', title: 'overlay' }],
    folders: ['layers'],
    open: async () => (await import('./overlay/overlay-driver.js')).openOverlay,
    tasks: async () => (await import('./overlay/tasks.js')).tasks,
  },
  {
    name: 'vfs',
    variants: [{ name: 'vfs', title: 'vfs' }],
    folders: [],
    open: async () => (await import('./vfs/vfs-driver.js')).openVfs,
    tasks: async () => (await import('./vfs/tasks.js')).tasks,
  },
] as const satisfies readonly DriverRow[]

export type DriverName = (typeof DRIVERS)[number]['name']

/** The values of `STRATA_SNAPSHOTTER`. */
export const DRIVER_NAMES: readonly DriverName[] = DRIVERS.map(({ name }) => name)

/** A variant of a driver: the unit that is probed and chosen. */
export interface Variant {
  readonly driver: DriverName
  readonly variant: string
  readonly title: string
}

/** All variants of all drivers, the best first. */
export const VARIANTS: readonly Variant[] = DRIVERS.flatMap((row) =>
  row.variants.map(({ name, title }) => ({ driver: row.name, variant: name, title })),
)

export function driverRow(driver: DriverName): DriverRow {
  return DRIVERS.find(({ name }) => name === driver)!
}

export function variantNames(driver: DriverName): string[] {
  return driverRow(driver).variants.map(({ name }) => name)
}
