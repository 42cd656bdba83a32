import { z } from 'zod'

/** For gateways and storage services, which need the same value. */
export const sparseImagesShape = {
  STRATA_SPARSE_IMAGES: z
    .stringbool()
    .default(false)
    .describe(
      'Whether a manifest is taken of which layers are missing, as registries that mirror parts of images need it. Without it only layers whose bytes are elsewhere may be missing (docs/registry.md). The same for all gateways and storage services',
    ),
}
