import { z } from 'zod'
import { flag } from './common.js'
import { nextOf, pageQuery } from './page.js'

const NODE_STATES = ['ready', 'no_extractor', 'no_runtime', 'gone'] as const
const nodeViewSchema = z
  .object({
    id: z.string(),
    state: z.enum(NODE_STATES).meta({
      description: 'ready: takes work. no_extractor, no_runtime: one of its two parts does not run. gone: neither does',
    }),
    host: z.string().meta({ description: 'the name of its machine' }),
    since: z.iso
      .datetime()
      .optional()
      .meta({ description: 'of a node that is not ready: when the missing part was last heard of' }),
    driver: z.string().optional().meta({ description: 'the snapshotter, as far as the node has ever told' }),
    runtime: z.string().optional().meta({ description: 'runc’s version line' }),
    kernel: z.string().optional(),
    containers: z.number().int(),
  })
  .meta({ id: 'Node' })
export type NodeView = z.infer<typeof nodeViewSchema>
export const nodeId = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'not the id of a node')
export const nodeListSchema = z
  .object({ nodes: z.array(nodeViewSchema), next: nextOf(nodeId, 'the order of the ids') })
  .meta({ id: 'NodeList' })
export type NodeList = z.infer<typeof nodeListSchema>
export const nodeListQuery = pageQuery(nodeId, 'nodes')
export const removeNodeQuery = z.object({
  force: flag(false).meta({ description: 'also with containers that may still be running on it' }),
})
