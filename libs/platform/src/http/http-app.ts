import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import { StandardSchemaValidationPipe, type DynamicModule, type Type } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { FastifyAdapter, RouteConfig, type NestFastifyApplication } from '@nestjs/platform-fastify'
import { inLogContext, StrataError } from '@strata/base'
import { readJson, type JsonLimits } from '@strata/oci'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { isOpen, refusalOf, type Authentication } from './authentication.js'
import { hasBody } from './early-answer.js'
import { Entrance } from './entrance.js'
import { ErrorFilter } from './errors/error-filter.js'
import { problemForm } from './errors/error-form.js'
import { countRequests, nameRoute } from '../metrics/request-metrics.js'
import type { ServiceMetrics } from '../metrics/metrics.js'
import { ServiceLogger } from '../service/logging.js'
import type { Readiness } from '../service/readiness.js'
import { RequestBodies, type BodyLimits } from './request-bodies.js'
import type { RunningService } from '../service/service.js'
import { serveTrees, type Tree } from './tree.js'

/**
 * What stands in the way of a start is thrown, for the process to say in a sentence; the framework
 * would log it first, with its stack.
 */
const QUIET = { bufferLogs: true, autoFlushLogs: false, abortOnError: false }

export interface HttpAppOptions {
  readonly authentication: Authentication
  /** For JSON bodies. */
  readonly bodies: BodyLimits
  /** Media types that are read as JSON, besides `application/json`. */
  readonly jsonTypes?: readonly string[]
  /** What is served past the framework. */
  readonly trees?: readonly Tree[]
  /** Requests are counted there. */
  readonly metrics?: ServiceMetrics
  /** Adds to the application before its routes are made. */
  readonly prepare?: (app: NestFastifyApplication) => void
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route's handler reads the body itself, unless its type is JSON. */
    readsBody?: boolean
    /** The route takes JSON of more than SMALL_BODY bytes. */
    largeJson?: boolean
  }
}

/** A route whose handler reads the body itself, of any type that is not JSON. */
export const ReadsBody = (): MethodDecorator => RouteConfig({ readsBody: true })
/** A route whose JSON may be as large as the service allows. */
export const LargeJson = (): MethodDecorator => RouteConfig({ largeJson: true })

/** JSON of a request that has only a few options. */
const SMALL_BODY = 64 * 1024
/**
 * A node is told all layers of an image, 10,000 at most, each an object. No request is deeper than
 * a few.
 */
const BODY_LIMITS: JsonLimits = { depth: 32, parts: 20_000, members: 100_000 }

/**
 * An HTTP application of a module, not listening yet: `handler` is opened on as many listeners as
 * the service has (open-listener.ts).
 *
 * Every request is authenticated first (authentication.ts). Then JSON bodies are read
 * (request-bodies.ts). A body of any other type is left in the socket for a route that reads it
 * itself (`ReadsBody`), however long it is, and refused everywhere else: a request whose options
 * are not understood must not be done without them.
 */
export async function createHttpApp(
  module: DynamicModule,
  { authentication, bodies: limits, jsonTypes = [], trees = [], metrics, prepare }: HttpAppOptions,
): Promise<{ app: NestFastifyApplication; handler: RequestListener }> {
  let framework: RequestListener | undefined
  const entrance = new Entrance(authentication)
  const adapter = new FastifyAdapter({
    routerOptions: { maxParamLength: 2_000 },
    forceCloseConnections: true,
    // What the server refuses before a route is found: a path that is no text.
    frameworkErrors: (error: Error, request: FastifyRequest, reply: FastifyReply) => {
      const refused = refusalOf(request.raw, isOpen(request), authentication)
      reply.hijack()
      entrance.refuse(request.raw, reply.raw, refused ?? new StrataError('bad_request', error.message), problemForm)
    },
    // Nothing is described to Fastify, whose own compilers are 300 modules.
    schemaController: { compilersFactory: { buildValidator: notUsed, buildSerializer: notUsed } },
    serverFactory: (listener: RequestListener) => createServer((framework = listener)),
  })
  // The adapter runs this before all other hooks and before every middleware; Fastify runs it for
  // unknown paths too.
  adapter.setOnRequestHook((request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => {
    if (request.routeOptions.url !== undefined) nameRoute(request.raw, request.routeOptions.url)
    const id = entrance.admit(request.raw, reply.raw, isOpen(request), problemForm)
    if (id === undefined) void reply.hijack()
    else inLogContext({ request: id }, done)
  })
  const app = await NestFactory.create<NestFastifyApplication>(module, adapter, { bodyParser: false, ...QUIET })
  app.useLogger(app.get(ServiceLogger))
  app.flushLogs()
  const fastify = adapter.getInstance()
  fastify.removeAllContentTypeParsers()
  fastify.addContentTypeParser('*', (request: FastifyRequest, payload: IncomingMessage, done) => {
    const understood = Boolean(request.routeOptions.config.readsBody) || request.is404 || !hasBody(payload)
    done(understood ? null : new StrataError('unsupported', notJson(payload)))
  })
  const bodies = new RequestBodies(limits)
  fastify.addContentTypeParser(
    ['application/json', ...jsonTypes],
    async (request: FastifyRequest, payload: IncomingMessage) =>
      parsed(await bodies.read(payload, request.routeOptions.config.largeJson === true ? Infinity : SMALL_BODY)),
  )
  app.useGlobalFilters(new ErrorFilter())
  app.useGlobalPipes(validation())
  prepare?.(app)
  await app.init()
  await fastify.ready()
  if (!framework) throw new StrataError('internal', 'the HTTP server was not made')
  const own = trees.map(({ server, ...tree }) => ({ ...tree, server: app.get(server) }))
  const handler = serveTrees(own, entrance, framework)
  return { app, handler: metrics ? countRequests(handler, metrics) : handler }
}

function notJson({ headers: { 'content-type': type } }: IncomingMessage): string {
  return `the body is ${type === undefined ? 'of no type' : `of the type ${type.slice(0, 100)}`}, and this request takes JSON: say Content-Type: application/json`
}

function parsed(body: Buffer): unknown {
  try {
    return body.length === 0 ? {} : readJson(body, 'the body', BODY_LIMITS)
  } catch (error) {
    if (error instanceof StrataError) throw error
    throw new StrataError('bad_request', 'the body is not JSON')
  }
}

/** Requests are checked by the contracts' schemas, in `validation`. */
function notUsed(): never {
  throw new StrataError('internal', 'a route has a schema of Fastify’s, which nothing compiles')
}

/** Every parameter with a schema is checked by it; the first thing that is wrong is named. */
function validation(): StandardSchemaValidationPipe {
  return new StandardSchemaValidationPipe({
    exceptionFactory: (issues) => {
      const path = issues[0]?.path
        ?.map((part) => (typeof part === 'object' ? String(part.key) : String(part)))
        .join('.')
      return new StrataError('bad_request', `${path ? `${path}: ` : ''}${issues[0]?.message ?? 'not valid'}`)
    },
  })
}

/** A service without HTTP: `worker` is the provider of the module that does its work. */
export async function startWorker(
  module: DynamicModule,
  worker: Type<{ readonly readiness: Readiness }>,
): Promise<RunningService> {
  const app = await NestFactory.createApplicationContext(module, QUIET)
  app.useLogger(app.get(ServiceLogger))
  app.flushLogs()
  const { readiness } = app.get(worker)
  return { addresses: [], notReady: () => readiness.notReady(), close: () => app.close() }
}
