/** As memcmp, a prefix before what it is a prefix of. Names are short: a loop is quicker than a call out of JavaScript. */
export function compareBytes(a: Uint8Array, aStart: number, aEnd: number, b: Uint8Array, bStart: number, bEnd: number): number {
  const length = Math.min(aEnd - aStart, bEnd - bStart)
  for (let index = 0; index < length; index++) {
    const difference = a[aStart + index]! - b[bStart + index]!
    if (difference !== 0) return difference
  }
  return aEnd - aStart - (bEnd - bStart)
}

/** A copy with room for `size` values. */
export function grown<T extends Uint8Array | Uint16Array | Uint32Array | Float64Array>(column: T, size: number): T {
  const larger = new (column.constructor as new (size: number) => T)(size)
  larger.set(column)
  return larger
}
