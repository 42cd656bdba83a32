/**
 * A range of a body: the bytes from `start` to `end`, exclusive, or the fact that the body has none
 * of them (416).
 */
export type RequestedRange = { readonly start: number; readonly end: number } | 'unsatisfiable'

/**
 * Parses a `Range` header with one range of bytes (RFC 9110, 14.1.2). One that ends before its
 * beginning has no bytes. Any other header, and one with several ranges, counts as none: the whole
 * body is a right answer to it.
 */
export function requestedRange(header: string | undefined, size: number): RequestedRange | undefined {
  const [, first = '', last = ''] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? '') ?? []
  if (first === '' && last === '') return undefined
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first)
  const end = first === '' || last === '' ? size : Math.min(size, Number(last) + 1)
  return start >= end ? 'unsatisfiable' : { start, end }
}
