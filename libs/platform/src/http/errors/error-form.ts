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
