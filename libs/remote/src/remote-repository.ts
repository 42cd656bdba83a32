import type { Descriptor, Digest, Tag } from '@strata/oci'

/**
 * Who asks. A user's name and password; or what docker keeps instead of them: an identity token,
 * which a token service takes for a new token, or a token for the registry itself.
 */
export type Credentials =
  | { readonly username: string; readonly password: string }
  | { readonly identityToken: string }
  | { readonly registryToken: string }

/**
 * Told while the client waits, as the registry asks (429, 5xx) or before it tries again. `why` is
 * one sentence for a user, `ms` the length of the pause.
 */
export type OnWait = (why: string, ms: number) => void

export interface RemoteOptions {
  readonly signal: AbortSignal
  readonly onWait?: OnWait | undefined
}

/** A manifest or an index, byte for byte. */
export interface RemoteManifest {
  readonly digest: Digest
  /** As the document says it, or else as the registry does. */
  readonly mediaType: string
  readonly bytes: Buffer
}

/** What is known of a blob before it is read. */
export interface RemoteBlobDescriptor {
  readonly digest: Digest
  readonly size: number
  /** Of a foreign layer: addresses that are asked where the registry does not have the blob. */
  readonly urls?: readonly unknown[] | null | undefined
}

export interface RemoteBlob {
  /**
   * The first byte that `body` has: what was asked for, or 0 where the registry knows no ranges.
   */
  readonly start: number
  /**
   * Chunks are lent: when the next one is asked for, or the iteration ends, the memory of the last
   * one has other bytes. Who leaves the iteration early closes its connections; who does not begin
   * it aborts the signal.
   */
  readonly body: AsyncIterable<Uint8Array>
}

/**
 * One repository of another registry (distribution-spec 1.1). Nothing that comes from there is
 * trusted; what is wrong, and whose fault it is, tells the error's code:
 *
 * | code | what happened |
 * | --- | --- |
 * | `registry_unavailable` | the registry does not answer, or with an error, also after all attempts |
 * | `registry_denied` | it refuses: credentials are missing, wrong, or not enough |
 * | `registry_invalid` | its answer is not one: form, length, media type, encoding |
 * | `address_refused` | it leads to where it may not lead; the sentence says what to configure |
 * | `hosts_invalid` | the configuration of the host cannot be read; the sentence has file and line |
 * | `digest_mismatch` | bytes do not have their digest |
 * | `limit_exceeded` | an answer is larger than `RemoteLimits` lets it be |
 * | `manifest_not_found`, `blob_not_found`, `repository_not_found` | the registry has no such thing |
 *
 * A signal that aborts rejects with its reason.
 */
export interface RemoteRepository {
  /**
   * By tag or digest. Bytes by digest are verified; by tag `digest` is that of the bytes. At most
   * `maxManifestBytes`.
   */
  manifest(reference: Tag | Digest, options: RemoteOptions): Promise<RemoteManifest>
  /**
   * The blob's bytes in order from `start`. They are **not verified**: who stores them hashes them.
   *
   * - It delivers `size` bytes less `start`, or fails with `registry_invalid`: also for a registry
   *   that has more or fewer.
   * - A connection that breaks is continued within the call: by range, or, where the registry knows
   *   none, by reading the blob again and dropping what was delivered.
   * - A large blob comes by several ranges at once, delivered in order.
   * - It resolves at the first answer, so that `start` is known.
   */
  blob(
    descriptor: RemoteBlobDescriptor,
    options: RemoteOptions & { readonly start?: number | undefined },
  ): Promise<RemoteBlob>
  /**
   * What is attached to a manifest: by the referrers API, or by the tag `sha256-…` where a registry
   * has none (distribution-spec, "Listing Referrers", "Referrers Tag Schema").
   */
  referrers(digest: Digest, options: RemoteOptions): AsyncIterable<Descriptor>
  /** All tags, page by page. */
  tags(options: RemoteOptions): AsyncIterable<Tag>
}
