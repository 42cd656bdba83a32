import { z } from 'zod'

export const API_VERSION = '1'
export const versionSchema = z
  .object({ version: z.string(), api: z.string(), node: z.string().meta({ description: 'of Node.js' }) })
  .meta({ id: 'Version' })
export type VersionView = z.infer<typeof versionSchema>
export const infoSchema = z
  .object({
    version: z.string(),
    images: z.number().int(),
    containers: z.object({
      running: z.number().int(),
      exited: z.number().int(),
      created: z.number().int(),
      unknown: z.number().int().meta({ description: 'on nodes that are gone' }),
    }),
    nodes: z.array(
      z.object({
        id: z.string(),
        driver: z.string().meta({ description: 'the snapshotter in use' }),
        driverReason: z.string(),
        runtime: z.string().meta({ description: 'runc’s version line' }),
        kernel: z.string(),
        warnings: z.array(z.string()),
      }),
    ),
  })
  .meta({ id: 'Info' })
export type InfoView = z.infer<typeof infoSchema>
