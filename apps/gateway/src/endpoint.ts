import { applyDecorators } from '@nestjs/common'
import { ApiOperation, ApiResponse } from '@nestjs/swagger'
import { API, problemSchema, type Contract } from '@strata/api'
import type { ErrorCode } from '@strata/base'
import { PROBLEMS, Serves } from '@strata/platform'

/** What every route may answer beside its own. */
const ANYWHERE: readonly ErrorCode[] = ['bad_request', 'internal']
/** What a route may answer that needs the token, and Redis or the store. */
const WITH_TOKEN: readonly ErrorCode[] = ['unauthorized', 'queue_unavailable', 'store_unavailable']
/** What a route may answer that takes a body, or has to refuse one. */
const WITH_BODY: readonly ErrorCode[] = ['request_timeout', 'limit_exceeded', 'unsupported', 'overloaded']
const OPEN: readonly string[] = [API.live.path, API.ready.path]

/**
 * Makes a method the handler of a route of the public API, and describes it. Method, path, status
 * and answer are the contract's.
 *
 * @param codes the errors that the route answers beside those that every route may answer. Their
 * statuses come from the table that also makes the answers
 */
export function Endpoint(contract: Contract, summary: string, codes: readonly ErrorCode[] = []): MethodDecorator {
  const { status, answer } = contract
  const isOpen = OPEN.includes(contract.path)
  const all = new Set([
    ...codes,
    ...ANYWHERE,
    ...(isOpen ? [] : WITH_TOKEN),
    ...(contract.method === 'GET' ? [] : WITH_BODY),
  ])
  const byStatus = Map.groupBy(all, (code) => PROBLEMS[code].status)
  return applyDecorators(
    Serves(contract),
    ApiOperation({ summary }),
    ...(answer ? [ApiResponse({ status, standardSchema: answer })] : []),
    ...(status === 204 || isOpen ? [ApiResponse({ status, description: 'done' })] : []),
    ApiResponse({
      status: 431,
      description: 'the URL and the headers have more than 128 KiB together; without a body',
    }),
    ...[...byStatus].map(([problem, of]) =>
      ApiResponse({ status: problem, description: of.join(', '), standardSchema: problemSchema }),
    ),
  )
}
