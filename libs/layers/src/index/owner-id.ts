const INVALID = 0xffffffff

/** Whether a tar can mean an owner by this number at all. */
export function isOwner(number: number): boolean {
  return Number.isSafeInteger(number)
}

/**
 * The owner or group that an entry with this number gets: its lowest 32 bits, which is what is left
 * of it in the engines' call of chown(2). 2^32-1 is no owner to Linux: chown takes it for "leave as
 * it is", so the engines' files stay root's. EROFS would show the overflow id instead, and an
 * export another owner than either. So it is root here, for all of them.
 */
export function ownerId(number: number): number {
  const id = number >>> 0
  return id === INVALID ? 0 : id
}
