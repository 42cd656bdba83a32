import { MAX_PAGE } from '@strata/api'
import { StrataError } from '@strata/base'

/** What a request says of a page: `n` entries behind `last`. */
export interface PageQuery {
  readonly limit: number
  readonly last: string | undefined
}

/**
 * Reads `n` and `last` (distribution-spec, "Listing Tags"). If `n` is more than `MAX_PAGE`, the
 * page has `MAX_PAGE` entries: the answer has a `Link`, by which a client finds the rest.
 * @throws StrataError `bad_request` if `n` is not a number from 0, or `last` can be no name
 */
export function pageIn(query: URLSearchParams): PageQuery {
  const n = query.get('n')
  if (n !== null && !/^\d{1,15}$/.test(n))
    throw new StrataError(
      'bad_request',
      `n is ${JSON.stringify(n.slice(0, 50))}: it is the number of entries of a page, from 0`,
    )
  const last = query.get('last')
  if (last !== null && !/^[\w./:-]{1,255}$/.test(last))
    throw new StrataError('bad_request', `last is ${JSON.stringify(last.slice(0, 50))}, which is no name`)
  return { limit: Math.min(n === null ? MAX_PAGE : Number(n), MAX_PAGE), last: last ?? undefined }
}

/** The header `Link` of a page that another one follows (RFC 8288). */
export function linkTo(path: string, parameters: Readonly<Record<string, string | number | undefined>>): string {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined) query.set(name, String(value))
  return `<${path}?${query.toString()}>; rel="next"`
}
