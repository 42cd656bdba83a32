import type { TarLimits } from '@strata/archive'

/** Where the bytes of one upload go: one implementation for each kind of store. */
export interface Destination {
  /**
   * Comes first, and fails if it was done for the upload before: who has claimed it owns all of its
   * data, and may discard it.
   */
  claim(): Promise<void>
  /**
   * The folder for the pair's writing thread to fill; empty where there is none, and `write` is who
   * reads the ring.
   */
  readonly folder: string
  /**
   * Writes each file of the archive in the ring to its place (`Placement`), until the turn's end;
   * the next turn goes on from there. Ends soon after `stop` aborts. Rejects with a StrataError;
   * then, and after any other failure, `discard` ends what is under way.
   */
  write(
    ring: SharedArrayBuffer,
    body: { readonly limits: TarLimits; readonly whole: boolean },
    stop: AbortSignal,
  ): Promise<void>
  /** All is written and hashed: what the writing thread wrote counts from here. */
  seal(large: readonly string[]): Promise<void>
  /** Takes away all that was written since the claim, and leaves nothing running. */
  discard(): Promise<void>
}
