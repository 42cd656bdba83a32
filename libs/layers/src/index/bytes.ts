/**
 * As memcmp, a prefix before what it is a prefix of. Names are short: a loop is quicker than a call
 * out of JavaScript.
 */
export function compareBytes(
  a: Uint8Array,
  aStart: number,
  aEnd: number,
  b: Uint8Array,
  bStart: number,
  bEnd: number,
): number {
  const length = Math.min(aEnd - aStart, bEnd - bStart)
  for (let index = 0; index < length; index++) {
    const difference = a[aStart + index]! - b[bStart + index]!
    if (difference !== 0) return difference
  }
  return aEnd - aStart - (bEnd - bStart)
}

/** With a buffer of its own. */
export type Column =
  Uint8Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | Float64Array<ArrayBuffer>

/**
 * The column with room for `size` values. The one given has no memory any more: what waits for the
 * collector counts, and of a layer of a million entries it is as much as all the rest.
 */
export function grown<T extends Column>(column: T, size: number): T {
  return new (column.constructor as new (memory: ArrayBuffer) => T)(
    column.buffer.transfer(size * column.BYTES_PER_ELEMENT),
  )
}

/** Gives the memory of columns back at once. */
export function release(...columns: readonly Column[]): void {
  for (const { buffer } of columns) buffer.transfer(0)
}

/** Names are short: a loop is quicker than a call out of JavaScript. */
export function copyBytes(target: Uint8Array, at: number, source: Uint8Array, start: number, end: number): void {
  if (end - start > 64) target.set(source.subarray(start, end), at)
  else for (let index = start; index < end; index++) target[at + index - start] = source[index]!
}
