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

/** A request's route, and the parts of its path. A part that the route does not have is empty. */
export interface Call {
  readonly operation: Operation
  readonly name: string
  /** The tag, digest or id of an upload. */
  readonly last: string
  readonly query: URLSearchParams
}

/** The pattern of a route's path, as `/v2/<name>/tags/list`. */
export function patternOf(operation: Operation): string {
  return `/v2/${ROUTES.find(([name]) => name === operation)![2]}`
}

/**
 * Finds the route of a request. `url` is the request's, undecoded.
 * @throws StrataError `not_found`; `name_invalid` for an encoded slash, `bad_request` for a path
 * that is no text
 */
export function routeOf(method: string, url: string): Call {
  const [path = '', ...query] = url.split('?')
  const components = path.split('/').slice(2).map(decoded)
  if (components.at(-1) === '') components.pop()
  for (const [operation, ofMethod, pattern] of ROUTES) {
    if (ofMethod !== (method === 'HEAD' ? 'GET' : method)) continue
    const found = matchedBy(pattern, components)
    if (found) return { operation, ...found, query: new URLSearchParams(query.join('?')) }
  }
  throw new StrataError('not_found', `the registry has no ${method} ${JSON.stringify(path.slice(0, 300))}`)
}

function matchedBy(pattern: string, components: readonly string[]): { name: string; last: string } | undefined {
  const [first, ...rest] = pattern.split('/')
  if (first !== '<name>')
    return components.length <= 1 && components[0] === (pattern || undefined) ? { name: '', last: '' } : undefined
  const name = components.slice(0, -rest.length)
  const found = components.slice(name.length)
  if (name.length === 0 || !rest.every((part, at) => part.startsWith('<') || part === found[at])) return undefined
  return { name: name.join('/'), last: found.at(-1)! }
}

function decoded(component: string): string {
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
