import { createHash } from 'node:crypto'
import { StrataError } from '@strata/base'

/**
 * The registered algorithms (image-spec, descriptor.md, "Registered Algorithms") that tools write.
 */
export type Algorithm = 'sha256' | 'sha512'
/**
 * `sha256:<64 hex>` or `sha512:<128 hex>`: what a blob is known by (image-spec, descriptor.md,
 * "Digests"). Only the parse makes one.
 */
export type Digest = string & { readonly __brand: 'Digest' }
/**
 * The sha256 of a layer's *uncompressed* tar (image-spec, config.md). Never to be mixed up with the
 * digest of the blob as it travels.
 */
export type DiffId = Digest & { readonly __diffId: true }
/**
 * Identity of a stack of layers: chainId(L0..Ln), sha256 (image-spec, config.md, "Layer ChainID").
 */
export type ChainId = Digest & { readonly __chainId: true }

/** As a text, for where grammars are described. */
export const DIGEST = '(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})'
export const NOT_A_DIGEST = 'not a sha256 or sha512 digest'
const WHOLE = new RegExp(`^${DIGEST}$`)
const SHA256 = /^sha256:[0-9a-f]{64}$/

export function isDigest(text: unknown): text is Digest {
  return typeof text === 'string' && WHOLE.test(text)
}

export function isDiffId(text: unknown): text is DiffId {
  return typeof text === 'string' && SHA256.test(text)
}

/**
 * Refuses everything but the exact grammar: digests become object keys and file names
 * (CVE-2024-3727).
 */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) throw new StrataError('bad_request', `${JSON.stringify(text.slice(0, 150))} is ${NOT_A_DIGEST}`)
  return text
}

export function parseDiffId(text: string): DiffId {
  if (!isDiffId(text))
    throw new StrataError('bad_request', `${JSON.stringify(text.slice(0, 150))} is not a sha256 digest`)
  return text
}

export function parseChainId(text: string): ChainId {
  return parseDiffId(text) as Digest as ChainId
}

export function algorithmOf(digest: Digest): Algorithm {
  return digest.startsWith('sha512:') ? 'sha512' : 'sha256'
}

/** The 64 or 128 hex digits. */
export function hexOf(digest: Digest): string {
  return digest.slice('sha256:'.length)
}

/** 64 digits are of sha256, 128 of sha512. */
export function digestFromHex(hex: string): Digest {
  return parseDigest(`${hex.length === 128 ? 'sha512' : 'sha256'}:${hex}`)
}

export function digestOf(bytes: Uint8Array | string, algorithm: Algorithm = 'sha256'): Digest {
  return digestFromHex(createHash(algorithm).update(bytes).digest('hex'))
}

/**
 * The chain ids of a stack, lowest first: `chainIds([a, b])` is `[chain(a), chain(a, b)]`; of no
 * layers `[]`.
 */
export function chainIds(diffIds: readonly DiffId[]): ChainId[] {
  const chain: ChainId[] = []
  for (const diffId of diffIds) {
    const below = chain.at(-1)
    chain.push((below ? digestOf(`${below} ${diffId}`) : diffId) as ChainId)
  }
  return chain
}

/**
 * The chain id of the whole stack. A stack of no layers has the digest of nothing, so that it has a
 * key of its own.
 */
export function chainIdOf(diffIds: readonly DiffId[]): ChainId {
  return chainIds(diffIds).at(-1) ?? (digestOf('') as ChainId)
}
