import { ERROR_CODES } from '@strata/base'
import { z } from 'zod'
import { nodeUsageSchema } from './collection.js'
import { digest } from './common.js'
import {
  containerId,
  containerListSchema,
  containerSchema,
  killSchema,
  listContainersQuery,
  logsQuery,
  prunedContainersSchema,
  pruneContainersSchema,
  removeContainerQuery,
  stopSchema,
  waitResultSchema,
} from './containers.js'
import type { Answer, Contract, RequestFor } from './contract.js'
import { imageRefSchema } from './image-ref.js'
import { mountResultSchema } from './images.js'

/**
 * The node API: what gateways ask of a node, over a unix socket or TCP, with the shared secret. One
 * source for the node, which serves it, and the gateway, which calls it and checks the answers.
 */
export const NODE_API = {
  listContainers: {
    method: 'GET',
    path: '/containers',
    query: listContainersQuery,
    status: 200,
    answer: containerListSchema,
  },
  pruneContainers: {
    method: 'POST',
    path: '/containers/prune',
    body: pruneContainersSchema,
    status: 200,
    answer: prunedContainersSchema.pick({ containers: true }),
  },
  getContainer: { method: 'GET', path: '/containers/:id', param: containerId, status: 200, answer: containerSchema },
  /** Why a launch failed, in the words that only its caller may read. */
  launchFailure: {
    method: 'GET',
    path: '/containers/:id/failure',
    param: containerId,
    status: 200,
    answer: z.object({ code: z.enum(ERROR_CODES), message: z.string() }),
  },
  waitContainer: {
    method: 'POST',
    path: '/containers/:id/wait',
    param: containerId,
    status: 200,
    answer: waitResultSchema,
  },
  containerLogs: { method: 'GET', path: '/containers/:id/logs', param: containerId, query: logsQuery, status: 200 },
  stopContainer: { method: 'POST', path: '/containers/:id/stop', param: containerId, body: stopSchema, status: 204 },
  killContainer: { method: 'POST', path: '/containers/:id/kill', param: containerId, body: killSchema, status: 204 },
  removeContainer: {
    method: 'DELETE',
    path: '/containers/:id',
    param: containerId,
    query: removeContainerQuery,
    status: 204,
  },
  usage: { method: 'GET', path: '/usage', status: 200, answer: nodeUsageSchema },
  mountImage: { method: 'POST', path: '/mounts', body: imageRefSchema, status: 200, answer: mountResultSchema },
  umountImage: {
    method: 'DELETE',
    path: '/mounts/:id',
    param: digest,
    status: 200,
    answer: z.object({ removed: z.boolean() }),
  },
} as const satisfies Record<string, Contract>

export type NodeApiName = keyof typeof NODE_API
export type NodeApiAnswer<N extends NodeApiName> = Answer<(typeof NODE_API)[N]>
export type NodeApiRequest<N extends NodeApiName> = RequestFor<(typeof NODE_API)[N]>
