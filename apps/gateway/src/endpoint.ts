import { applyDecorators } from '@nestjs/common'
import { ApiOperation, ApiResponse } from '@nestjs/swagger'
import { problemSchema, type Contract } from '@strata/api'
import type { ErrorCode } from '@strata/base'
import { PROBLEMS, Serves } from '@strata/platform'

/**
 * Makes a method the handler of a route of the public API, and describes it. Method, path, status
 * and answer are the contract's.
 *
 * @param codes the errors that the route answers. Their statuses come from the table that also
 * makes the answers
 */
export function Endpoint(contract: Contract, summary: string, codes: readonly ErrorCode[] = []): MethodDecorator {
  const { status, answer } = contract
  const byStatus = Map.groupBy(codes, (code) => PROBLEMS[code].status)
  return applyDecorators(
    Serves(contract),
    ApiOperation({ summary }),
    ...(answer ? [ApiResponse({ status, standardSchema: answer })] : []),
    ...[...byStatus].map(([problem, of]) =>
      ApiResponse({ status: problem, description: of.join(', '), standardSchema: problemSchema }),
    ),
  )
}
