/**
 * Every key of ours in Redis, beside BullMQ's own (prefix `strata-q`).
 *
 *     strata:job:<id>            hash: the journal's record of a request
 *     strata:job:<id>:was        remains when the record has expired: tells "expired" from "never was"
 *     strata:jobs                sorted set: ids by time of creation
 *     strata:cancel:<id>         the request is to stop
 *     strata:node:<id>           a node's registration, renewed; gone when the node is
 *     strata:containers:<node>   hash: container id → its record, as its node published it
 *     strata:nodes               set: the ids of all nodes that ever registered
 *     strata:placed:<container>  the node that took it; expires a day after its removal
 *     strata:names               hash: container name → container id, claimed before a launch
 * Channels: strata:changed (an id whose journal changed), strata:cancelled (an id that is to stop).
 */
export const BULL_PREFIX = 'strata-q'
export const KEY = {
  job: (id: string) => `strata:job:${id}`,
  jobWas: (id: string) => `strata:job:${id}:was`,
  jobs: 'strata:jobs',
  cancel: (id: string) => `strata:cancel:${id}`,
  node: (id: string) => `strata:node:${id}`,
  nodes: 'strata:nodes',
  containers: (node: string) => `strata:containers:${node}`,
  placed: (container: string) => `strata:placed:${container}`,
  names: 'strata:names',
}
export const CHANNEL = { changed: 'strata:changed', cancelled: 'strata:cancelled' }
