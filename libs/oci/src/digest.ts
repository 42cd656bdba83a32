import { createHash } from 'node:crypto'
import { StrataError } from './errors.js'

/** `sha256:<64 hex>`: what a blob is known by (image-spec, descriptor.md, "Digests"). Only the parse makes one. */
export type Digest = string & { readonly __brand: 'Digest' }
/** The digest of a layer's *uncompressed* tar (image-spec, config.md). Never to be mixed up with the digest of the blob as it travels. */
export type DiffId = Digest & { readonly __diffId: true }
/** Identity of a stack of layers: chainId(L0..Ln) (image-spec, config.md, "Layer ChainID"). */
export type ChainId = Digest & { readonly __chainId: true }

const DIGEST = /^sha256:[0-9a-f]{64}$/

export function isDigest(text: unknown): text is Digest {
  return typeof text === 'string' && DIGEST.test(text)
}

/** Refuses everything but the exact grammar: digests become object keys and file names (CVE-2024-3727). */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) throw new StrataError('bad_request', `${JSON.stringify(text.slice(0, 100))} is not a sha256 digest`)
  return text
}

export function parseDiffId(text: string): DiffId {
  return parseDigest(text) as DiffId
}

export function parseChainId(text: string): ChainId {
  return parseDigest(text) as ChainId
}

/** The 64 hex digits. */
export function hexOf(digest: Digest): string {
  return digest.slice('sha256:'.length)
}

export function digestFromHex(hex: string): Digest {
  return parseDigest(`sha256:${hex}`)
}

export function digestOf(bytes: Uint8Array | string): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest
}

/** The chain ids of a stack, lowest first: `chainIds([a, b])` is `[chain(a), chain(a, b)]`; of no layers `[]`. */
export function chainIds(diffIds: readonly DiffId[]): ChainId[] {
  const chain: ChainId[] = []
  for (const diffId of diffIds) {
    const below = chain.at(-1)
    chain.push((below ? digestOf(`${below} ${diffId}`) : diffId) as ChainId)
  }
  return chain
}

/** The chain id of the whole stack. A stack of no layers has the digest of nothing, so that it has a key of its own. */
export function chainIdOf(diffIds: readonly DiffId[]): ChainId {
  return chainIds(diffIds).at(-1) ?? (digestOf('') as ChainId)
}
