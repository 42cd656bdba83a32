import { PROBLEM_TYPE, retryHeaders, toProblem } from './problem.js'

/** An error as its API answers it. */
interface ErrorAnswer {
  readonly status: number
  /** `content-type` among them. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/**
 * How one API answers errors, for any thrown value. What is not a `StrataError` must tell nothing
 * of the inside (`toldToCaller`).
 */
export type ErrorForm = (thrown: unknown) => ErrorAnswer

/** The form of `/v1` and of the node API: `application/problem+json` (RFC 9457). */
export const problemForm: ErrorForm = (thrown) => {
  const { body } = toProblem(thrown)
  const headers = { 'content-type': PROBLEM_TYPE, ...retryHeaders(body.code) }
  return { status: body.status, headers, body: JSON.stringify(body) }
}

/** A tree of routes whose errors have a form of their own. */
export interface ErrorTree {
  /** The first segments of its paths, as `/v2`. */
  readonly prefix: string
  readonly form: ErrorForm
}

/**
 * Chooses the form of an error by the path of its request, so that it is the same for what is
 * refused before a route is found (no token, no such path, a body that is not JSON) and for what a
 * handler throws.
 */
export function errorFormOf(trees: readonly ErrorTree[], url: string | undefined): ErrorForm {
  const [path = ''] = (url ?? '').split('?')
  return trees.find(({ prefix }) => path === prefix || path.startsWith(`${prefix}/`))?.form ?? problemForm
}
