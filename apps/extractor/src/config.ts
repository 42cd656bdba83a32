import { indexMemoryShape, packedLimitsShape } from '@strata/archive'
import { absolutePath, nodeId, serviceConfigShape } from '@strata/platform'
import { checkStoreConfig, storeConfigShape } from '@strata/store'
import { z } from 'zod'

export const extractorConfigSchema = z
  .object({
    ...serviceConfigShape,
    ...storeConfigShape,
    ...packedLimitsShape,
    ...indexMemoryShape,
    STRATA_NODE: nodeId.describe(
      'The id of this node, the same for its extractor and its runtime and for no other node of this Redis: lower-case letters, digits and -',
    ),
    STRATA_REJOIN: z
      .stringbool()
      .default(false)
      .describe(
        'Whether a node that was removed (strata node rm) comes back, with its containers. For one start of its runtime and its extractor',
      ),
    STRATA_NODE_FOLDER: absolutePath.describe(
      'The folder of this node: layers, roots, containers. The same for its extractor and its runtime, and for no other node',
    ),
    STRATA_EXTRACT_CONCURRENCY: z.coerce
      .number()
      .int()
      .min(1)
      .max(64)
      .default(2)
      .describe('How many layers are inflated at a time'),
  })
  .check(checkStoreConfig)
export type ExtractorConfig = z.infer<typeof extractorConfigSchema>
export const layersFolder = (nodeFolder: string): string => `${nodeFolder}/layers`
