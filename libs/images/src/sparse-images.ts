import { z } from 'zod'

/** For gateways and storage services, which need the same value. */
export const sparseImagesShape = {
  STRATA_SPARSE_IMAGES: z
    .stringbool()
    .default(false)
    .describe(
      'Whether a manifest may lack layers, as registries that mirror parts of images need it; if not, it may lack only those whose bytes are elsewhere (docs/registry.md). The same for all gateways and storage services',
    ),
}
