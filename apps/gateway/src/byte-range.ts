/** Bytes from `start` to `end`, exclusive, of a body; or that none of them are there (416). */
export type RequestedRange = { readonly start: number; readonly end: number } | 'unsatisfiable'

/**
 * A `Range` header of one range of bytes (RFC 9110, 14.1.2). Others, and several ranges, are as
 * none: the whole body is a right answer to them.
 */
export function requestedRange(header: string | undefined, size: number): RequestedRange | undefined {
  const [, first = '', last = ''] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? '') ?? []
  if (first === '' && last === '') return undefined
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first)
  const end = first === '' || last === '' ? size : Math.min(size, Number(last) + 1)
  if (first !== '' && last !== '' && Number(last) < start) return undefined
  return start >= end ? 'unsatisfiable' : { start, end }
}
