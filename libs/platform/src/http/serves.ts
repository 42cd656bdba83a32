import { applyDecorators, HttpCode, RequestMapping, RequestMethod } from '@nestjs/common'

/** The part of a route's contract that the server needs. */
export interface ServedRoute {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** From the root, with `:name` for a parameter. */
  readonly path: string
  /** Of an answer, unless the handler sets another. */
  readonly status: number
}

/** The handler of a route, by its contract: the path is not written a second time. */
export function Serves({ method, path, status }: ServedRoute): MethodDecorator {
  return applyDecorators(RequestMapping({ method: RequestMethod[method], path }), HttpCode(status))
}
