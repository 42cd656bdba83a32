import { StrataError } from '@strata/base'

/**
 * Every route of the registry (distribution-spec, "Endpoints"), as data: the operation, its method,
 * and its path behind `/v2/`. HEAD is served wherever GET is.
 *
 * `<name>` stands for one component or more, each other placeholder for one. A component of a name
 * may be `manifests` or `blobs`. The last components decide which route it is, so each path has one
 * meaning.
 */
const ROUTES = [
  ['base', 'GET', ''],
  ['catalog', 'GET', '_catalog'],
  ['tags', 'GET', '<name>/tags/list'],
  ['referrers', 'GET', '<name>/referrers/<digest>'],
  ['getManifest', 'GET', '<name>/manifests/<reference>'],
  ['putManifest', 'PUT', '<name>/manifests/<reference>'],
  ['deleteManifest', 'DELETE', '<name>/manifests/<reference>'],
  ['uploadStatus', 'GET', '<name>/blobs/uploads/<upload>'],
  ['appendChunk', 'PATCH', '<name>/blobs/uploads/<upload>'],
  ['finishUpload', 'PUT', '<name>/blobs/uploads/<upload>'],
  ['cancelUpload', 'DELETE', '<name>/blobs/uploads/<upload>'],
  ['beginUpload', 'POST', '<name>/blobs/uploads'],
  ['getBlob', 'GET', '<name>/blobs/<digest>'],
  ['deleteBlob', 'DELETE', '<name>/blobs/<digest>'],
] as const

export type Operation = (typeof ROUTES)[number][0]

const TABLE = ROUTES.map(([operation, method, path]) => {
  const [first = '', ...tail] = path.split('/')
  return { operation, method, pattern: `/v2/${path}`, first, tail }
})

/** A request's route, and the parts of its path. A part that the route does not have is empty. */
export interface Call {
  readonly operation: Operation
  /** The pattern of the route's path, as `/v2/<name>/tags/list`. */
  readonly pattern: string
  readonly name: string
  /** The tag, digest or id of an upload. */
  readonly last: string
  readonly query: URLSearchParams
}

const NO_QUERY = new URLSearchParams()

/**
 * Finds the route of a request. `url` is the request's, undecoded.
 * @throws StrataError `not_found`; `name_invalid` for an encoded slash, `bad_request` for a path
 * that is no text
 */
export function routeOf(method: string, url: string): Call {
  const [path = '', ...query] = url.split('?')
  const components = path.split('/').slice(2).map(decoded)
  if (components.at(-1) === '') components.pop()
  const asked = method === 'HEAD' ? 'GET' : method
  for (const { operation, method: ofRoute, pattern, first, tail } of TABLE) {
    const found = ofRoute === asked ? partsOf(components, first, tail) : undefined
    if (found)
      return {
        operation,
        pattern,
        ...found,
        query: query.length === 0 ? NO_QUERY : new URLSearchParams(query.join('?')),
      }
  }
  throw new StrataError('not_found', `the registry has no ${method} ${JSON.stringify(path.slice(0, 300))}`)
}

function partsOf(
  components: readonly string[],
  first: string,
  tail: readonly string[],
): { readonly name: string; readonly last: string } | undefined {
  if (first !== '<name>')
    return components.length <= 1 && components[0] === (first || undefined) ? { name: '', last: '' } : undefined
  const end = components.length - tail.length
  if (end < 1) return undefined
  for (const [at, part] of tail.entries()) if (part !== components[end + at] && !part.startsWith('<')) return undefined
  return { name: components.slice(0, end).join('/'), last: components.at(-1)! }
}

function decoded(component: string): string {
  if (!component.includes('%')) return component
  let text: string
  try {
    text = decodeURIComponent(component)
  } catch {
    throw new StrataError('bad_request', `the path has ${JSON.stringify(component.slice(0, 100))}, which is no text`)
  }
  if (text.includes('/'))
    throw new StrataError(
      'name_invalid',
      `the path has an encoded slash, in ${JSON.stringify(component.slice(0, 100))}: send it as it is`,
    )
  return text
}
