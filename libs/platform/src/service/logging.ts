import type { DynamicModule } from '@nestjs/common'
import { LoggerModule } from 'nestjs-pino'

/**
 * Logs of all services: one JSON object a line on stderr; what could hold a secret is taken out.
 * `level`: pino's names.
 */
export function loggingModule(level: string): DynamicModule {
  return LoggerModule.forRoot({
    pinoHttp: [
      {
        level,
        redact: { paths: ['req.headers.authorization', 'req.headers.cookie'], censor: '[taken out]' },
        // Open to everyone: a line for each would let a client without a token fill the disk.
        autoLogging: { ignore: ({ url = '' }) => url.startsWith('/v1/health') || url.startsWith('/docs') },
        customLogLevel: (_request, response, error) =>
          error || response.statusCode >= 500 ? 'error' : response.statusCode >= 400 ? 'info' : 'debug',
        serializers: {
          req: (request: { method: string; url: string }) => ({
            method: request.method,
            url: request.url.split('?')[0]!.slice(0, 1_000),
          }),
        },
      },
      process.stderr,
    ],
  })
}
