import { Logger as NestLogger, type DynamicModule } from '@nestjs/common'
import { logContext } from '@strata/base'
import { Logger, LoggerModule, PinoLogger, type Params } from 'nestjs-pino'
import { levels, stdTimeFunctions } from 'pino'

/*
 * Logs of all services, on stderr.
 *
 * - An event is one line of JSON: `level` (a name), `time` (ISO 8601), `context` (the part that
 *   writes it), `msg`, and `request` and `job` where it belongs to one. A request's id is
 *   in the header X-Request-Id of its answer; a job's is that of /v1/jobs.
 * - On a terminal the same is written for people.
 * - Nothing of a request is logged but its method, its path and its status: headers, queries and
 *   bodies may hold secrets.
 */

/** What Nest says of itself, at each start: modules, controllers and routes. */
const FRAMEWORK: readonly unknown[] = [
  'NestFactory',
  'NestApplication',
  'InstanceLoader',
  'RoutesResolver',
  'RouterExplorer',
]

/** The logger of Nest's applications, and of a process before it has one. */
export class ServiceLogger extends Logger {
  override log(message: unknown, ...params: unknown[]): void {
    if (!FRAMEWORK.includes(params.at(-1))) super.log(message, ...params)
  }
}

/** @param level pino's names */
function parameters(level: string): Params {
  return {
    // http-app.ts writes the lines of requests.
    forRoutes: [],
    pinoHttp: [
      {
        level,
        base: { pid: process.pid },
        timestamp: stdTimeFunctions.isoTime,
        formatters: { level: (name) => ({ level: name }) },
        // A copy: pino writes the line's own fields into what it is given.
        mixin: () => ({ ...logContext() }),
      },
      process.stderr.isTTY ? { write: (line: string) => void process.stderr.write(readable(line)) } : process.stderr,
    ],
  }
}

export function loggingModule(level: string): DynamicModule {
  const params = parameters(level)
  const { providers = [], exports = [], ...module } = LoggerModule.forRoot(params)
  const logger = { provide: ServiceLogger, useFactory: () => new ServiceLogger(new PinoLogger(params), params) }
  return { ...module, providers: [...providers, logger], exports: [...exports, ServiceLogger] }
}

/** For what a process writes before its configuration is read and an application is made. */
export function logFromTheStart(environment: NodeJS.ProcessEnv): void {
  const asked = environment['STRATA_LOG_LEVEL'] ?? ''
  const params = parameters(asked in levels.values || asked === 'silent' ? asked : 'info')
  NestLogger.overrideLogger(new ServiceLogger(new PinoLogger(params), params))
}

/**
 * A line of JSON for people: `2026-11-29T00:42:19.123Z info  ingest: loaded x:1  job=…`, and the
 * stack of an error below it.
 */
export function readable(line: string): string {
  const record = JSON.parse(line) as Readonly<Record<string, unknown>> & { err?: { stack?: string; message?: string } }
  const text = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))
  const { time, level, context, msg, err } = record
  const facts = Object.entries(record).filter(([name]) => !SHOWN.includes(name))
  const head = [
    `${text(time)} ${text(level).padEnd(5)} ${context === undefined ? '' : `${text(context)}: `}${text(msg ?? err?.message ?? '')}`,
    ...facts.map(([name, value]) => `${name}=${text(value)}`),
  ].join('  ')
  const stack = err?.stack === undefined ? '' : `\n${err.stack}`
  return `${printable(head)}${stack.split('\n').map(printable).join('\n')}\n`
}
/** What has a place of its own in a line for people, or none. */
const SHOWN: readonly string[] = ['time', 'level', 'context', 'msg', 'err', 'pid']

/** A terminal obeys control characters, and names of images and paths of requests are others'. */
function printable(text: string): string {
  return text.replace(
    /\p{Cc}|[\u2028-\u202e\u2066-\u2069]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
