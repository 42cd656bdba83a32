import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Type } from '@nestjs/common'
import { inLogContext } from '@strata/base'
import { nameRoute } from '../metrics/request-metrics.js'
import { answerError } from './early-answer.js'
import type { Entrance } from './entrance.js'
import type { ErrorForm } from './errors/error-form.js'

/** Serves the requests of a tree, each when it was let in. */
export interface TreeServer {
  /**
   * Answers the request. What it throws is answered in the tree's form, unless an answer was begun.
   * It may name the route (`nameRoute`), and reads the body by itself.
   */
  serve(request: IncomingMessage, response: ServerResponse): Promise<void>
}

/**
 * All paths below a prefix, served past Fastify and Nest by a provider of the application. For an
 * API with routes of its own and small answers: the framework's router, hooks and replies take more
 * time than such an answer (decision 96).
 *
 * Requests are let in as all others are (`Entrance`). No route of a tree is open.
 */
export interface Tree {
  /**
   * The first segment of its paths, as `/v2`. It is compared with the path as it was sent: another
   * spelling (`/%762`) is a path of the framework, which has no route for it.
   */
  readonly prefix: string
  /** Of its errors. */
  readonly form: ErrorForm
  readonly server: Type<TreeServer>
}

/** Hands each request to the tree that its path is in, and every other to `otherwise`. */
export function serveTrees(
  trees: readonly (Omit<Tree, 'server'> & { readonly server: TreeServer })[],
  entrance: Entrance,
  otherwise: RequestListener,
): RequestListener {
  return (request, response) => {
    const tree = trees.find(({ prefix }) => isBelow(prefix, request.url ?? ''))
    if (!tree) {
      otherwise(request, response)
      return
    }
    const { prefix, form, server } = tree
    nameRoute(request, `${prefix}/*`)
    const id = entrance.admit(request, response, false, form)
    if (id === undefined) return
    inLogContext({ request: id }, () => {
      server
        .serve(request, response)
        .catch((error: unknown) => answerError(request, response, error, form))
        .catch(() => response.destroy())
    })
  }
}

function isBelow(prefix: string, url: string): boolean {
  if (!url.startsWith(prefix)) return false
  const next = url[prefix.length]
  return next === undefined || next === '/' || next === '?'
}
