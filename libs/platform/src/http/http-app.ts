import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import { Logger as NestLogger, StandardSchemaValidationPipe, type DynamicModule, type Type } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { FastifyAdapter, RouteConfig, type NestFastifyApplication } from '@nestjs/platform-fastify'
import { inLogContext, StrataError } from '@strata/base'
import { readJson, type JsonLimits } from '@strata/oci'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { isOpen, refusalOf, type Authentication } from './authentication.js'
import { closeAfter, continueBody } from '../listener/connection.js'
import { answerUnread, hasBody } from './early-answer.js'
import { ErrorFilter } from './error-filter.js'
import { failureOf } from './failures.js'
import { errorFormOf, type ErrorTree } from './error-form.js'
import { countRequests, nameRoute } from '../metrics/request-metrics.js'
import type { ServiceMetrics } from '../metrics/metrics.js'
import { ServiceLogger } from '../service/logging.js'
import type { Readiness } from '../service/readiness.js'
import { Refusals } from './refusals.js'
import { RequestBodies, type BodyLimits } from './request-bodies.js'
import type { RunningService } from '../service/service.js'

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
  /** Trees of routes whose errors have another form than `application/problem+json`. */
  readonly errorTrees?: readonly ErrorTree[]
  /** Requests are counted there. */
  readonly metrics?: ServiceMetrics
  /** Adds to the application before its routes are made. */
  readonly prepare?: (app: NestFastifyApplication) => void
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route's handler reads the body itself, unless its type is JSON; with `any` JSON too. */
    readsBody?: boolean | 'any'
    /** The route takes JSON of more than SMALL_BODY bytes. */
    largeJson?: boolean
  }
}

/** A route whose handler reads the body itself, of any type that is not JSON. */
export const ReadsBody = (): MethodDecorator => RouteConfig({ readsBody: true })
/** A route whose handler reads the body itself, JSON too. */
export const ReadsAnyBody = (): MethodDecorator => RouteConfig({ readsBody: 'any' })
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
  { authentication, bodies: limits, jsonTypes = [], errorTrees = [], metrics, prepare }: HttpAppOptions,
): Promise<{ app: NestFastifyApplication; handler: RequestListener }> {
  let handler: RequestListener | undefined
  const refusals = new Refusals((line) => new NestLogger('http').log(line))
  /**
   * Answers a request that may not go on. It is the last one of its connection, and its body is not
   * read.
   */
  const refuse = (request: FastifyRequest, reply: FastifyReply, refused: StrataError): void => {
    closeAfter(request.raw, reply.raw)
    refusals.add(refusedLine(request, refused))
    const form = errorFormOf(errorTrees, request.raw.url)
    if (hasBody(request.raw)) {
      reply.hijack()
      answerUnread(request.raw, reply.raw, refused, form)
      return
    }
    const { status, headers, body } = form(refused)
    void reply.status(status).headers(headers).send(body)
  }
  const adapter = new FastifyAdapter({
    routerOptions: { maxParamLength: 2_000 },
    forceCloseConnections: true,
    // What the server refuses before a route is found: a path that is no text.
    frameworkErrors: (error: Error, request: FastifyRequest, reply: FastifyReply) => {
      refuse(request, reply, refusalOf(request, authentication) ?? new StrataError('bad_request', error.message))
    },
    // Nothing is described to Fastify, whose own compilers are 300 modules.
    schemaController: { compilersFactory: { buildValidator: notUsed, buildSerializer: notUsed } },
    serverFactory: (listener: RequestListener) => createServer((handler = listener)),
  })
  // The adapter runs this before all other hooks and before every middleware; Fastify runs it for
  // unknown paths too.
  adapter.setOnRequestHook((request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => {
    if (request.routeOptions.url !== undefined) nameRoute(request.raw, request.routeOptions.url)
    const refused = refusalOf(request, authentication)
    if (refused) {
      refuse(request, reply, refused)
      return
    }
    if (isOpen(request)) closeAfter(request.raw, reply.raw)
    continueBody(reply.raw)
    const id = randomUUID()
    reply.raw.setHeader('x-request-id', id)
    // Open to everyone: a line for each would let a client without a token fill the disk.
    if (!isOpen(request)) logWhenAnswered(id, request, reply)
    inLogContext({ request: id }, done)
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
    async (request: FastifyRequest, payload: IncomingMessage) => {
      if (request.routeOptions.config.readsBody === 'any') return undefined
      return parsed(await bodies.read(payload, request.routeOptions.config.largeJson === true ? Infinity : SMALL_BODY))
    },
  )
  app.useGlobalFilters(new ErrorFilter(errorTrees))
  app.useGlobalPipes(validation())
  prepare?.(app)
  await app.init()
  await fastify.ready()
  if (!handler) throw new StrataError('internal', 'the HTTP server was not made')
  return { app, handler: metrics ? countRequests(handler, metrics) : handler }
}

/**
 * A line for each request that was let in: at `info` if it is answered with an error, at `error` if
 * the service failed.
 */
function logWhenAnswered(request: string, { raw }: FastifyRequest, reply: FastifyReply): void {
  const begun = performance.now()
  reply.raw.once('close', () => {
    const { statusCode: status } = reply.raw
    const ms = Math.round(performance.now() - begun)
    const path = raw.url?.split('?')[0]?.slice(0, 1_000)
    const failure = failureOf(reply.raw)
    const line = { request, method: raw.method, path, status, ms, ...failure }
    const what = reply.raw.writableFinished ? 'answered' : 'not answered to the end'
    if (status >= 500 || failure) ACCESS.error(line, what)
    else if (status >= 400) ACCESS.log(line, what)
    else ACCESS.debug(line, what)
  })
}
const ACCESS = new NestLogger('http')

/** A refused request is not let in, and has no line but this. */
function refusedLine({ raw: { method = '', url = '', socket } }: FastifyRequest, { code }: StrataError): string {
  return `refused, ${code}: ${method} ${url.split('?')[0]!.slice(0, 200)} from ${socket.remoteAddress ?? 'a client that is gone, or a unix socket'}`
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
