import { extractor } from '@strata/extractor'
import { gateway } from '@strata/gateway'
import { ingest } from '@strata/ingest'
import { runtime } from '@strata/runtime'
import type { ServiceName } from '@strata/standalone'
import { storage } from '@strata/storage'
import type { z } from 'zod'

/** The environment of each service that is a process of its own. */
export const CONFIGS: Readonly<Record<ServiceName, z.ZodObject>> = {
  gateway: gateway.config,
  ingest: ingest.config,
  extractor: extractor.config,
  storage: storage.config,
  runtime: runtime.config,
}

export function fieldsOf(config: z.ZodObject): [name: string, field: z.ZodType][] {
  return Object.entries(config.shape)
}
