import { AsyncLocalStorage } from 'node:async_hooks'

/** What is worked on. Every log line that is written meanwhile says it (`@strata/platform`). */
export interface LogContext {
  /** The id of the HTTP request. */
  readonly request?: string
  /** The id of the request that a job belongs to, as `/v1/jobs/:id` has it. */
  readonly job?: string
}

const contexts = new AsyncLocalStorage<LogContext>()

/** Does `work`, and everything that it begins, in this context, which adds to the one around it. */
export function inLogContext<T>(context: LogContext, work: () => T): T {
  return contexts.run({ ...contexts.getStore(), ...context }, work)
}

export function logContext(): LogContext | undefined {
  return contexts.getStore()
}
