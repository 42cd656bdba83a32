const INVALID = 0xffffffff

/**
 * The owner or group that an entry with this number gets. 2^32-1 is no owner to Linux: chown(2)
 * takes it for "leave as it is", so the engines' files stay root's. EROFS would show the overflow
 * id instead, and an export another owner than either. So it is root here, for all of them.
 */
export function ownerId(number: number): number {
  return number === INVALID ? 0 : number
}
