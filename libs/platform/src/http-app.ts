import { createServer, type RequestListener } from 'node:http'
import { Logger as NestLogger, StandardSchemaValidationPipe, type DynamicModule, type Type } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify'
import { StrataError } from '@strata/oci'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Logger } from 'nestjs-pino'
import { refusalOf, type Authentication } from './authentication.js'
import { continueBody } from './doors.js'
import { ProblemFilter } from './problem-filter.js'
import { PROBLEM_TYPE, toProblem } from './problem.js'
import type { Readiness } from './readiness.js'
import type { RunningService } from './service.js'

/** A JSON body of a request, not of an image. */
const MAX_JSON_BODY = 4 * 1024 * 1024
/** What stands in the way of a start is thrown, for the process to say in a sentence; the framework would log it first, with its stack. */
const QUIET = { bufferLogs: true, autoFlushLogs: false, abortOnError: false }

export interface HttpAppOptions {
  readonly authentication: Authentication
  /** Adds to the application before its routes are made. */
  readonly prepare?: (app: NestFastifyApplication) => void
}

/**
 * An HTTP application of a module, not listening yet: `handler` is opened on as many doors as the service has (doors.ts).
 *
 * Every request is authenticated first (authentication.ts). Then JSON bodies are parsed; every other body is left in
 * the socket for its controller to read, however long it is.
 */
export async function createHttpApp(module: DynamicModule, { authentication, prepare }: HttpAppOptions): Promise<{ app: NestFastifyApplication; handler: RequestListener }> {
  let handler: RequestListener | undefined
  const adapter = new FastifyAdapter({
    bodyLimit: MAX_JSON_BODY,
    routerOptions: { maxParamLength: 2_000 },
    forceCloseConnections: true,
    // What the server refuses before a route is found: a path that is no text.
    frameworkErrors: (error: Error, request: FastifyRequest, reply: FastifyReply) => {
      const { body } = toProblem(refusalOf(request, authentication) ?? new StrataError('bad_request', error.message))
      void reply.status(body.status).type(PROBLEM_TYPE).send(body)
    },
    // Nothing is described to Fastify, whose own compilers are 300 modules.
    schemaController: { compilersFactory: { buildValidator: notUsed, buildSerializer: notUsed } },
    serverFactory: (listener: RequestListener) => createServer((handler = listener)),
  })
  // The adapter runs this before all other hooks and before every middleware; Fastify runs it for unknown paths too.
  adapter.setOnRequestHook((request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => {
    const refused = refusalOf(request, authentication)
    if (refused) logRefused(request)
    else continueBody(reply.raw)
    done(refused)
  })
  const app = await NestFactory.create<NestFastifyApplication>(module, adapter, { bodyParser: false, ...QUIET })
  app.useLogger(app.get(Logger))
  app.flushLogs()
  const fastify = adapter.getInstance()
  fastify.removeAllContentTypeParsers()
  fastify.addContentTypeParser('*', (_request, _payload, done) => done(null))
  fastify.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => {
    try {
      done(null, body.length === 0 ? {} : JSON.parse(body.toString()))
    } catch {
      done(new StrataError('bad_request', 'the body is not JSON'))
    }
  })
  app.useGlobalFilters(new ProblemFilter())
  app.useGlobalPipes(validation())
  prepare?.(app)
  await app.init()
  await fastify.ready()
  if (!handler) throw new StrataError('internal', 'the HTTP server was not made')
  return { app, handler }
}

/** Middleware logs requests, and a refused one never gets there. */
function logRefused({ raw: { method = '', url = '', socket } }: FastifyRequest): void {
  new NestLogger('http').log(`refused, not authenticated: ${method} ${url.split('?')[0]!.slice(0, 200)} from ${socket.remoteAddress ?? 'a client that is gone, or a unix socket'}`)
}

/** Requests are checked by the contracts' schemas, in `validation`. */
function notUsed(): never {
  throw new StrataError('internal', 'a route has a schema of Fastify’s, which nothing compiles')
}

/** Every parameter with a schema is checked by it; the first thing that is wrong is named. */
function validation(): StandardSchemaValidationPipe {
  return new StandardSchemaValidationPipe({
    exceptionFactory: (issues) => {
      const path = issues[0]?.path?.map((part) => (typeof part === 'object' ? String(part.key) : String(part))).join('.')
      return new StrataError('bad_request', `${path ? `${path}: ` : ''}${issues[0]?.message ?? 'not valid'}`)
    },
  })
}

/** A service without HTTP: `worker` is the provider of the module that does its work. */
export async function startWorker(module: DynamicModule, worker: Type<{ readonly readiness: Readiness }>): Promise<RunningService> {
  const app = await NestFactory.createApplicationContext(module, QUIET)
  app.useLogger(app.get(Logger))
  app.flushLogs()
  const { readiness } = app.get(worker)
  return { doors: [], notReady: () => readiness.notReady(), close: () => app.close() }
}
