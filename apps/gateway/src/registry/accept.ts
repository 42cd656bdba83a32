/**
 * Whether a client that sent this `Accept` takes a manifest of this media type (RFC 9110, 12.5.1;
 * weights other than 0 do not matter, since there is one form of a manifest only).
 *
 * A client that names no media type of a manifest gets any.
 */
export function isAccepted(accept: string | undefined, mediaType: string): boolean {
  if (accept === undefined || accept === mediaType) return true
  const ranges = accept.toLowerCase().split(',').map(parsed)
  const wanted = ranges.filter(({ range }) => range.startsWith('application/vnd.') || range.endsWith('*'))
  if (wanted.length === 0) return true
  const [exact] = wanted.filter(({ range }) => range === mediaType)
  if (exact) return !exact.isRefused
  return wanted.some(({ range, isRefused }) => !isRefused && ['*/*', 'application/*'].includes(range))
}

function parsed(text: string): { readonly range: string; readonly isRefused: boolean } {
  const [range = '', ...parameters] = text.split(';').map((part) => part.trim())
  return { range, isRefused: parameters.some((parameter) => /^q=0(?:\.0*)?$/.test(parameter)) }
}
