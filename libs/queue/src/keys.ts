/**
 * Every key of ours in Redis, beside BullMQ's own (prefix `strata-q`).
 *
 *     strata:job:<id>            hash: the journal's record of a request
 *     strata:job:<id>:was        remains when the record has expired: tells "expired" from "never was"
 *     strata:jobs                sorted set: ids by time of creation
 *     strata:cancel:<id>         the request is to stop
 *     strata:requests:<container> set: the ids of the requests about it that have not ended; may hold some that have
 *     strata:node:<id>           what a node's runtime says of itself, renewed; gone when the runtime is
 *     strata:node:<id>:extractor the same of its extractor
 *     strata:node:<id>:owner     the node folder that has this id, renewed by either; another folder must wait
 *     strata:nodes:seen          hash: `<node>/<part>` → when it was last renewed, and what it said
 *     strata:containers:<node>   hash: container id → its record, as its node published it
 *     strata:uses:<node>         sorted set of `<image id> <container id>`, one of each of those records, scores 0
 *     strata:nodes               set: the ids of all nodes that ever registered
 *     strata:nodes:unpublished   set: those of them whose containers are not here yet, as after Redis was emptied
 *     strata:placed:<container>  the node that took it; expires a day after its removal
 *     strata:version             which version these data have, a number (redis-version.ts)
 *     strata:version:lock        who brings them to another one; expires
 *     strata:names               hash: container name → container id, claimed before a launch
 * Channels: strata:changed (an id whose journal changed), strata:cancelled (an id that is to stop).
 */
export const BULL_PREFIX = 'strata-q'
export const KEY = {
  job: (id: string) => `strata:job:${id}`,
  jobWas: (id: string) => `strata:job:${id}:was`,
  jobs: 'strata:jobs',
  cancel: (id: string) => `strata:cancel:${id}`,
  requests: (container: string) => `strata:requests:${container}`,
  node: (id: string) => `strata:node:${id}`,
  extractor: (id: string) => `strata:node:${id}:extractor`,
  nodeOwner: (id: string) => `strata:node:${id}:owner`,
  nodesSeen: 'strata:nodes:seen',
  nodes: 'strata:nodes',
  nodesUnpublished: 'strata:nodes:unpublished',
  containers: (node: string) => `strata:containers:${node}`,
  uses: (node: string) => `strata:uses:${node}`,
  placed: (container: string) => `strata:placed:${container}`,
  names: 'strata:names',
  version: 'strata:version',
  versionLock: 'strata:version:lock',
}
export const CHANNEL = { changed: 'strata:changed', cancelled: 'strata:cancelled' }
