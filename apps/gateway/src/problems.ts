import { applyDecorators } from '@nestjs/common'
import { ApiResponse } from '@nestjs/swagger'
import { problemSchema } from '@strata/api'
import type { ErrorCode } from '@strata/base'
import { PROBLEMS } from '@strata/platform'

/**
 * Notes in the API's description which errors a route answers, from the table that also makes the
 * answers.
 */
export function answersProblems(...codes: ErrorCode[]): MethodDecorator {
  const byStatus = Map.groupBy(codes, (code) => PROBLEMS[code].status)
  return applyDecorators(
    ...[...byStatus].map(([status, of]) =>
      ApiResponse({ status, description: of.join(', '), standardSchema: problemSchema }),
    ),
  )
}
