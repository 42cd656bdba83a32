/**
 * Every route of the public API (`/v1`), as data: the method and the path, nothing else.
 *
 * This file imports nothing, so that a client of the API does not load its schemas: the CLI starts
 * in the time that they take. `contract.ts` says what each route takes and answers, under the same
 * names.
 */
export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** `:name` is a parameter: one segment, percent-encoded. */
  readonly path: string
}

export const ROUTES = {
  loadImages: { method: 'POST', path: '/v1/images' },
  loadImagesByPut: { method: 'PUT', path: '/v1/images' },
  listImages: { method: 'GET', path: '/v1/images' },
  getImage: { method: 'GET', path: '/v1/images/:ref' },
  removeImage: { method: 'DELETE', path: '/v1/images/:ref' },
  tagImage: { method: 'POST', path: '/v1/images/:ref/tag' },
  mountImage: { method: 'POST', path: '/v1/images/:ref/mount' },
  umountImage: { method: 'DELETE', path: '/v1/images/:ref/mount' },
  exportImage: { method: 'GET', path: '/v1/images/:ref/export' },
  listFiles: { method: 'GET', path: '/v1/images/:ref/files' },
  readFile: { method: 'GET', path: '/v1/images/:ref/file' },
  diffImages: { method: 'GET', path: '/v1/images/:ref/diff' },
  imageHistory: { method: 'GET', path: '/v1/images/:ref/history' },
  saveImages: { method: 'GET', path: '/v1/archive' },

  listRepositories: { method: 'GET', path: '/v1/repositories' },
  listTags: { method: 'GET', path: '/v1/repositories/:name/tags' },
  getManifest: { method: 'GET', path: '/v1/manifests/:ref' },
  listReferrers: { method: 'GET', path: '/v1/manifests/:ref/referrers' },

  createContainer: { method: 'POST', path: '/v1/containers' },
  listContainers: { method: 'GET', path: '/v1/containers' },
  pruneContainers: { method: 'POST', path: '/v1/containers/prune' },
  getContainer: { method: 'GET', path: '/v1/containers/:id' },
  removeContainer: { method: 'DELETE', path: '/v1/containers/:id' },
  waitContainer: { method: 'POST', path: '/v1/containers/:id/wait' },
  containerLogs: { method: 'GET', path: '/v1/containers/:id/logs' },
  startContainer: { method: 'POST', path: '/v1/containers/:id/start' },
  stopContainer: { method: 'POST', path: '/v1/containers/:id/stop' },
  killContainer: { method: 'POST', path: '/v1/containers/:id/kill' },

  listJobs: { method: 'GET', path: '/v1/jobs' },
  getJob: { method: 'GET', path: '/v1/jobs/:id' },
  cancelJob: { method: 'DELETE', path: '/v1/jobs/:id' },
  followJob: { method: 'GET', path: '/v1/jobs/:id/events' },

  listNodes: { method: 'GET', path: '/v1/nodes' },
  removeNode: { method: 'DELETE', path: '/v1/nodes/:id' },

  version: { method: 'GET', path: '/v1/version' },
  info: { method: 'GET', path: '/v1/info' },
  live: { method: 'GET', path: '/v1/health/live' },
  ready: { method: 'GET', path: '/v1/health/ready' },
  collect: { method: 'POST', path: '/v1/gc' },
  diskUsage: { method: 'GET', path: '/v1/system/df' },
} as const satisfies Record<string, Route>

/** The names of a path's parameters. */
export type ParamName<P extends string> = P extends `${string}:${infer Name}/${infer Rest}`
  ? Name | ParamName<Rest>
  : P extends `${string}:${infer Name}`
    ? Name
    : never

/** What a request puts into its URL. An array is repeated; what is undefined is left out. */
export type QueryValue = string | number | boolean | readonly string[] | undefined

/** What any request is made of; `ApiRequest` says what a route's own is. */
export interface RequestParts {
  readonly params?: Readonly<Record<string, string>>
  readonly query?: Readonly<Record<string, QueryValue>> | undefined
  readonly body?: unknown
}

/**
 * A route's path with its parameters filled in, and the query behind it.
 *
 *     pathOf('/v1/images/:ref/tag', { params: { ref: 'a/b:1' }, query: { x: 1 } })
 *        →  /v1/images/a%2Fb%3A1/tag?x=1
 */
export function pathOf(path: string, { params = {}, query = {} }: Omit<RequestParts, 'body'> = {}): string {
  const filled = path.replaceAll(/:(\w+)/g, (_, name: string) => encodeURIComponent(params[name] ?? ''))
  const search = Object.entries(query)
    .flatMap(([name, value]) => [value ?? []].flat().map((one) => `${name}=${encodeURIComponent(String(one))}`))
    .join('&')
  return search === '' ? filled : `${filled}?${search}`
}
