import { createHash } from 'node:crypto'
import type { NestFastifyApplication } from '@nestjs/platform-fastify'
import { DocumentBuilder, SwaggerModule, type OpenAPIObject } from '@nestjs/swagger'
import { API_VERSION } from '@strata/api'
import { PROBLEM_TYPE } from '@strata/platform'
import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify'

/**
 * Serves the description of the API: `/docs` (a page) and `/docs/openapi.json` (OpenAPI 3.1, made
 * from the schemas that check requests). It holds no data, so it needs no token.
 */
export function serveDocs(app: NestFastifyApplication): void {
  app
    .getHttpAdapter()
    .getInstance()
    .addHook('onRoute', (route: RouteOptions) => {
      if (route.url === '/docs' || route.url.startsWith('/docs/')) route.config = { ...route.config, open: true }
    })
  const config = new DocumentBuilder()
    .setOpenAPIVersion('3.1.0')
    .setTitle('Strata')
    .setDescription('Container images in, layers apart, containers out.')
    .setVersion(API_VERSION)
    .addBearerAuth()
    .build()
  const document = once(() => withProblemType(SwaggerModule.createDocument(app, config)))
  SwaggerModule.setup('docs', app, document, { raw: [] })
  // SwaggerModule does not serve this: it would write the whole document again for each request,
  // also for one without a token.
  const text = once(() => Buffer.from(JSON.stringify(document())))
  const etag = once(() => `"${createHash('sha256').update(text()).digest('hex')}"`)
  app.getHttpAdapter().get('/docs/openapi.json', (request: FastifyRequest, reply: FastifyReply) => {
    void reply.header('etag', etag()).type('application/json')
    if (request.headers['if-none-match'] === etag()) void reply.code(304).send()
    else void reply.send(text())
  })
}

/** An error is not `application/json`, which Nest writes for whatever has a schema. */
function withProblemType(document: OpenAPIObject): OpenAPIObject {
  for (const path of Object.values(document.paths))
    for (const { responses = {} } of Object.values(path as Record<string, { responses?: Record<string, Answer> }>))
      for (const [status, answer] of Object.entries(responses)) {
        const { 'application/json': json } = answer.content ?? {}
        if (Number(status) >= 400 && json !== undefined) answer.content = { [PROBLEM_TYPE]: json }
      }
  return document
}
interface Answer {
  content?: Record<string, unknown>
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined
  return () => (made ??= { value: make() }).value
}
