import type { ChainId, DiffId } from '@strata/oci'
import type { LayerFiles } from './snapshotter.js'

/**
 * What a driver adds: how a root is kept and mounted. All else (keys, locks, writable children,
 * use) is the same for all: layered-snapshotter.ts.
 */
export interface RootDriver {
  readonly name: 'erofs' | 'overlay'
  /**
   * Called once at a time for a chain id, under its lock. Must appear at `folder.root(chainId)`
   * whole, by a rename, or not at all.
   */
  assemble(chainId: ChainId, layers: readonly LayerFiles[], signal: AbortSignal): Promise<void>
  /** Whether the root is there and can be mounted. */
  isAssembled(chainId: ChainId): boolean
  /** Read-only, nosuid, nodev, at a folder that is there. */
  mount(chainId: ChainId, target: string): Promise<void>
  /** The layers of a root that is there whole, lowest first. */
  layersOf(chainId: ChainId): readonly DiffId[] | undefined
  /** What goes from the disk with these roots: their folders, and what no other root needs. */
  foldersOf(chainIds: readonly ChainId[]): string[]
  /** After the root's folder has gone: what no other root needs of what it was made of. */
  collect(): Promise<void>
  /** Waits for what goes on in the background. */
  close(): Promise<void>
}
