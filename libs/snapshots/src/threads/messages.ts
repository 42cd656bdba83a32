/**
 * The tasks of a thread: functions of one argument, by name. Arguments and results are copied
 * between threads, so they are plain data.
 */
export type Tasks = Readonly<Record<string, (argument: never) => unknown>>

export interface WorkerRequest {
  /** The table of tasks: a driver's name, or `trees`. */
  readonly owner: string
  readonly task: string
  readonly argument: unknown
  /** Any value but 0 says that nobody waits for the result any more. */
  readonly stop: Int32Array
}
export type WorkerOutcome = { readonly result: unknown } | { readonly code: string; readonly message: string }
export interface WorkerReply {
  readonly outcome: WorkerOutcome
  /** The thread's memory in bytes, garbage included. */
  readonly held: number
}
