import type { Digest, Repository } from '@strata/oci'
import { inTurns } from './in-turns.js'
import { KeySet } from './key-set.js'
import type { PackedList } from './packed-list.js'
import { keys } from '../keys.js'
import type { ListedRepositoryBlob } from '../repositories/repository-blobs.js'
import type { ListedRepository } from '../repositories/repository-names.js'

/** What `references` reports beside the references: it calls these functions. */
export interface Told {
  /**
   * To be called for each manifest of each repository, and for each blob that such a manifest
   * refers to: the repository has it.
   */
  readonly had: (repository: Repository, digest: Digest) => void
  /**
   * To be called for something visible whose references cannot be read. What it cannot refer to is
   * still collected.
   */
  readonly unreadable: (unreadable: Unreadable) => void
}

/** Something visible that refers to blobs, and nobody can tell to which. */
export interface Unreadable {
  /** As `rmi` takes it, and people read it. */
  readonly name: string
  /** A sentence: what is wrong, and what to do. */
  readonly reason: string
  /** The repository that it is in. The blobs that this repository has keys of stay. */
  readonly repository: Repository | undefined
  /**
   * What it refers to: blobs that its repository has keys of, or any blob. (A name that cannot be
   * read may be of an older store, in which its repository has no keys for it.)
   */
  readonly refersTo: 'blobs of its repository' | 'any blob'
  /**
   * A blob that it certainly refers to. If its repository has no key of that blob, it may refer to
   * any blob, because the keys for one manifest are made together.
   */
  readonly surely?: Digest
}

/**
 * Which of the listed things are needed. It forgets all others: a manifest may name any number of
 * blobs that are not stored, so that memory is bounded by what is listed alone.
 */
export class Needed {
  /** Gets smaller. Of what is added nothing is held: very much is needed, and little is not. */
  readonly #unneeded = new KeySet()

  list(one: string): void {
    this.#unneeded.add(one)
  }

  add(one: string): void {
    this.#unneeded.delete(one)
  }

  /** Of one of the listed things. */
  has(one: string): boolean {
    return !this.#unneeded.has(one)
  }
}

/** All keys of repositories as they were listed, and the keys of what repositories have. */
export interface RepositoryKeys {
  readonly names: PackedList<ListedRepository>
  readonly blobs: PackedList<ListedRepositoryBlob>
  readonly had: Needed
}

/**
 * Adds what unreadable things may refer to: the blobs that their repositories have keys of.
 * `true`: that may be any blob.
 */
export async function keepUnreadable(
  unreadable: readonly Unreadable[],
  { blobs, had }: RepositoryKeys,
  referred: Needed,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (unreadable.length === 0) return false
  const kept = new Set(unreadable.map(({ repository }) => repository))
  const there = new Set<string>()
  for await (const { key, repository, digest } of inTurns(blobs, signal)) {
    if (!kept.has(repository)) continue
    there.add(key)
    had.add(key)
    referred.add(digest)
  }
  for (const repository of kept) if (repository !== undefined) had.add(keys.repository(repository))
  return unreadable.some(
    ({ repository, refersTo, surely }) =>
      repository === undefined ||
      refersTo === 'any blob' ||
      (surely !== undefined && !there.has(keys.repositoryBlob(repository, surely))),
  )
}
