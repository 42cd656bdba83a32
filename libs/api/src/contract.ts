import { z } from 'zod'
import { archiveQuery } from './archives.js'
import { collectQuery, collectResultSchema, collectSchema, diskUsageSchema } from './collection.js'
import { uuid } from './common.js'
import {
  containerListSchema,
  containerSchema,
  createContainerQuery,
  createContainerSchema,
  killSchema,
  listContainersQuery,
  logsQuery,
  prunedContainersSchema,
  pruneContainersSchema,
  removeContainerQuery,
  startContainerQuery,
  stopSchema,
  waitResultSchema,
} from './containers.js'
import { diffQuery, diffSchema, fileListSchema, fileQuery, filesQuery, historySchema } from './files.js'
import {
  imageListQuery,
  imageListSchema,
  imageQuery,
  imageSchema,
  loadQuery,
  loadResultSchema,
  mountResultSchema,
  removeImageQuery,
  removeImageResultSchema,
  tagSchema,
} from './images.js'
import { jobListQuery, jobListSchema, jobSchema } from './jobs.js'
import { nodeId, nodeListQuery, nodeListSchema, removeNodeQuery } from './nodes.js'
import {
  referrerListQuery,
  referrerListSchema,
  repositoryListQuery,
  repositoryListSchema,
  repositoryName,
  tagListQuery,
  tagListSchema,
} from './repositories.js'
import { ROUTES, type ParamName, type QueryValue, type Route } from './routes.js'
import { infoSchema, versionSchema } from './system.js'

/** What one route takes and answers. What is left out is not there. */
export interface Contract extends Route {
  /** The path's one parameter. */
  readonly param?: z.ZodType
  readonly query?: z.ZodType
  /** A JSON body. */
  readonly body?: z.ZodType
  /** The status of success. */
  readonly status: number
  /** A JSON answer. */
  readonly answer?: z.ZodType
}

const imageRef = z.string().min(1).max(512)
const containerRef = z.string().min(1).max(128)

/**
 * The public API: one source for the gateway, which checks and answers by it, for the clients'
 * types, and for the description at `/docs`.
 */
export const API = {
  loadImages: { ...ROUTES.loadImages, query: loadQuery, status: 201, answer: loadResultSchema },
  loadImagesByPut: { ...ROUTES.loadImagesByPut, query: loadQuery, status: 201, answer: loadResultSchema },
  listImages: { ...ROUTES.listImages, query: imageListQuery, status: 200, answer: imageListSchema },
  getImage: { ...ROUTES.getImage, param: imageRef, query: imageQuery, status: 200, answer: imageSchema },
  removeImage: {
    ...ROUTES.removeImage,
    param: imageRef,
    query: removeImageQuery,
    status: 200,
    answer: removeImageResultSchema,
  },
  tagImage: { ...ROUTES.tagImage, param: imageRef, body: tagSchema, status: 201 },
  mountImage: { ...ROUTES.mountImage, param: imageRef, status: 200, answer: mountResultSchema },
  umountImage: { ...ROUTES.umountImage, param: imageRef, status: 204 },
  exportImage: { ...ROUTES.exportImage, param: imageRef, status: 200 },
  listFiles: { ...ROUTES.listFiles, param: imageRef, query: filesQuery, status: 200, answer: fileListSchema },
  readFile: { ...ROUTES.readFile, param: imageRef, query: fileQuery, status: 200 },
  diffImages: { ...ROUTES.diffImages, param: imageRef, query: diffQuery, status: 200, answer: diffSchema },
  imageHistory: { ...ROUTES.imageHistory, param: imageRef, status: 200, answer: historySchema },
  saveImages: { ...ROUTES.saveImages, query: archiveQuery, status: 200 },

  listRepositories: {
    ...ROUTES.listRepositories,
    query: repositoryListQuery,
    status: 200,
    answer: repositoryListSchema,
  },
  listTags: { ...ROUTES.listTags, param: repositoryName, query: tagListQuery, status: 200, answer: tagListSchema },
  getManifest: { ...ROUTES.getManifest, param: imageRef, status: 200 },
  listReferrers: {
    ...ROUTES.listReferrers,
    param: imageRef,
    query: referrerListQuery,
    status: 200,
    answer: referrerListSchema,
  },

  createContainer: {
    ...ROUTES.createContainer,
    query: createContainerQuery,
    body: createContainerSchema,
    status: 201,
    answer: containerSchema,
  },
  listContainers: { ...ROUTES.listContainers, query: listContainersQuery, status: 200, answer: containerListSchema },
  pruneContainers: {
    ...ROUTES.pruneContainers,
    body: pruneContainersSchema.nullish(),
    status: 200,
    answer: prunedContainersSchema,
  },
  getContainer: { ...ROUTES.getContainer, param: containerRef, status: 200, answer: containerSchema },
  removeContainer: { ...ROUTES.removeContainer, param: containerRef, query: removeContainerQuery, status: 204 },
  waitContainer: { ...ROUTES.waitContainer, param: containerRef, status: 200, answer: waitResultSchema },
  containerLogs: { ...ROUTES.containerLogs, param: containerRef, query: logsQuery, status: 200 },
  startContainer: {
    ...ROUTES.startContainer,
    param: containerRef,
    query: startContainerQuery,
    status: 200,
    answer: containerSchema,
  },
  stopContainer: { ...ROUTES.stopContainer, param: containerRef, body: stopSchema.optional(), status: 204 },
  killContainer: { ...ROUTES.killContainer, param: containerRef, body: killSchema.optional(), status: 204 },

  listJobs: { ...ROUTES.listJobs, query: jobListQuery, status: 200, answer: jobListSchema },
  getJob: { ...ROUTES.getJob, param: uuid, status: 200, answer: jobSchema },
  cancelJob: { ...ROUTES.cancelJob, param: uuid, status: 202, answer: jobSchema },
  followJob: { ...ROUTES.followJob, param: uuid, status: 200 },

  listNodes: { ...ROUTES.listNodes, query: nodeListQuery, status: 200, answer: nodeListSchema },
  removeNode: { ...ROUTES.removeNode, param: nodeId, query: removeNodeQuery, status: 204 },

  version: { ...ROUTES.version, status: 200, answer: versionSchema },
  info: { ...ROUTES.info, status: 200, answer: infoSchema },
  live: { ...ROUTES.live, status: 200 },
  ready: { ...ROUTES.ready, status: 200 },
  collect: {
    ...ROUTES.collect,
    query: collectQuery,
    body: collectSchema.nullish(),
    status: 200,
    answer: collectResultSchema,
  },
  diskUsage: { ...ROUTES.diskUsage, status: 200, answer: diskUsageSchema },
} as const satisfies { [N in keyof typeof ROUTES]: Contract & (typeof ROUTES)[N] }

/** A member that the contract `C` has, or `never`. */
type Member<C, K extends keyof Contract> = C extends Readonly<Record<K, infer S>> ? S : never

/** The JSON that a route answers; `undefined` for one that answers none. */
export type Answer<C extends Contract> = [Member<C, 'answer'>] extends [never]
  ? undefined
  : z.output<Member<C, 'answer'>>

type Query<S> = [S] extends [never] ? undefined : { readonly [K in keyof z.input<S>]?: QueryValue }
type Body<S> = [S] extends [never] ? undefined : z.input<S>

/** What a request for a route is made of. What the route does not take cannot be given. */
export type RequestFor<C extends Contract> = {
  readonly query?: Query<Member<C, 'query'>>
  readonly body?: Body<Member<C, 'body'>>
} & ([ParamName<C['path']>] extends [never]
  ? unknown
  : { readonly params: Readonly<Record<ParamName<C['path']>, string>> })

export type ApiName = keyof typeof API
export type ApiAnswer<N extends ApiName> = Answer<(typeof API)[N]>
export type ApiRequest<N extends ApiName> = RequestFor<(typeof API)[N]>
