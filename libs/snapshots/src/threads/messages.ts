/**
 * What is done in a thread: functions of one argument, by name. Arguments and results are copied,
 * so they are plain data.
 */
export type Tasks = Readonly<Record<string, (argument: never) => unknown>>

export interface WorkerRequest {
  /** Whose tasks: a driver's name, or `trees`. */
  readonly owner: string
  readonly task: string
  readonly argument: unknown
  /** Not 0 = the result is not wanted any more. */
  readonly stop: Int32Array
}
export type WorkerOutcome = { readonly result: unknown } | { readonly code: string; readonly message: string }
export interface WorkerReply {
  readonly outcome: WorkerOutcome
  /** Bytes that the thread has now, with its garbage. */
  readonly held: number
}
