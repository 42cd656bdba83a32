/**
 * What the OCI runtime says of a container; `undefined` where it knows none (runtime-spec,
 * runtime.md, "State").
 */
export interface RuntimeState {
  readonly status: 'created' | 'running' | 'stopped'
  /** On the host; 0 when stopped. */
  readonly pid: number
}

export interface RuntimeAbout {
  readonly version: string
  readonly warnings: readonly string[]
}

/**
 * An OCI runtime's command line (runtime-spec, runtime.md, "Operations"). `create` is conmon's to
 * call, with `path` and `globalArgs`.
 */
export interface RuntimeDriver {
  readonly path: string
  readonly globalArgs: readonly string[]
  /** Its name and version in a line, and what a person should know of it at start-up. */
  about(): Promise<RuntimeAbout>
  /** Lets the created process run. Fails with `launch_failed` and the runtime's words. */
  start(id: string): Promise<void>
  /** False if there is no process to signal. `signal` as in `TERM`, or a number. */
  kill(id: string, signal: string): Promise<boolean>
  /** Kills what runs and drops the state. Fine if there is none. */
  delete(id: string): Promise<void>
  state(id: string): Promise<RuntimeState | undefined>
  /** All of which it has anything, also what a process that died has left half-made. */
  list(): Promise<string[]>
}
