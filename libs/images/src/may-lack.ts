import { isElsewhere, type Descriptor, type Digest } from '@strata/oci'

type Layer = Pick<Descriptor, 'digest' | 'mediaType' | 'urls'>
interface Named {
  readonly config: { readonly digest: Digest }
  readonly layers: readonly Layer[]
}

/**
 * Collects the layers that the store may lack while it has a manifest that names them: those whose
 * descriptors say that their bytes are elsewhere, and all layers if `everyLayer`. A layer that one
 * descriptor says is elsewhere, and another does not, is needed; so is a config.
 *
 * ```ts
 * const digests = new MayLack().add(manifest).digests
 * ```
 */
export class MayLack {
  readonly #needed = new Set<Digest>()
  readonly #others = new Set<Digest>()

  constructor(private readonly everyLayer = false) {}

  add({ config, layers }: Named): this {
    this.#needed.add(config.digest)
    for (const layer of layers) (this.everyLayer || isElsewhere(layer) ? this.#others : this.#needed).add(layer.digest)
    return this
  }

  get digests(): ReadonlySet<Digest> {
    return new Set([...this.#others].filter((digest) => !this.#needed.has(digest)))
  }
}
