import type { NestFastifyApplication } from '@nestjs/platform-fastify'
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger'
import { API_VERSION } from '@strata/api'
import type { RouteOptions } from 'fastify'

/** The API's description at `/docs` (a page) and `/docs/openapi.json`: OpenAPI 3.1, made from the schemas that check requests. Holds no data, so it is open. */
export function serveDocs(app: NestFastifyApplication): void {
  app.getHttpAdapter().getInstance().addHook('onRoute', (route: RouteOptions) => {
    if (route.url === '/docs' || route.url.startsWith('/docs/')) route.config = { ...route.config, open: true }
  })
  const config = new DocumentBuilder().setOpenAPIVersion('3.1.0').setTitle('Strata').setDescription('Container images in, layers apart, containers out.').setVersion(API_VERSION).addBearerAuth().build()
  SwaggerModule.setup('docs', app, () => SwaggerModule.createDocument(app, config), { jsonDocumentUrl: 'docs/openapi.json', raw: ['json'] })
}
