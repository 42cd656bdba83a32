import { z } from 'zod'
import { type ListenerLimits } from '../listener/open-listener.js'
import { parseTcpListener } from '../listener/listener.js'
import type { BodyLimits } from '../http/request-bodies.js'

/** `HOST:PORT`, `[v6]:PORT`. */
export const hostPort = z.string().refine(isHostPort, 'must be HOST:PORT')
/**
 * Node.js has U+FFFD for what is not UTF-8 in a variable: with that in its path, a folder of
 * another name would be made.
 */
export const absolutePath = z
  .string()
  .startsWith('/', 'must be an absolute path')
  .refine((path) => !path.includes('\ufffd'), 'must be UTF-8')
export const nodeId = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be lower-case letters, digits and -')

function isHostPort(text: string): boolean {
  try {
    parseTcpListener(text)
    return true
  } catch {
    return false
  }
}

/**
 * What every service reads. A field's description is its line in docs/configuration.md and in
 * `--help`.
 */
export const serviceConfigShape = {
  STRATA_REDIS: z
    .string()
    .regex(/^(unix:\/\/\/|rediss?:\/\/).+/, 'must be unix:///SOCKET or redis://[USER:PASSWORD@]HOST:PORT[/DB]')
    .describe('Redis: unix:///SOCKET or redis://[USER:PASSWORD@]HOST:PORT[/DB]'),
  STRATA_LOG_LEVEL: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'])
    .default('info')
    .describe('The least level of log lines'),
  STRATA_HEALTH: z
    .string()
    .refine((text) => text.startsWith('/') || isHostPort(text), 'must be HOST:PORT or the absolute path of a socket')
    .optional()
    .describe(
      'HOST:PORT, or the path of a unix socket, where /health/live, /health/ready and /metrics answer; no token is asked for',
    ),
  STRATA_MAX_CONNECTIONS: z.coerce
    .number()
    .int()
    .min(1)
    .max(1_000_000)
    .default(2_048)
    .describe('Limit: open connections of one listener; a connection more is closed at once'),
  STRATA_HEADERS_TIMEOUT_MS: z.coerce
    .number()
    .int()
    .min(1)
    .max(3_600_000)
    .default(10_000)
    .describe(
      'Limit: how long a client may take to send the headers of a request, from its connection on, in milliseconds',
    ),
  STRATA_UNREAD_TIMEOUT_MS: z.coerce
    .number()
    .int()
    .min(1)
    .max(3_600_000)
    .default(60_000)
    .describe(
      'Limit: how long a client may take nothing of an answer that has bytes for it, in milliseconds; its connection is cut off then. Readers of logs and of a file may pause',
    ),
  STRATA_BODY_TIMEOUT_MS: z.coerce
    .number()
    .int()
    .min(1)
    .max(3_600_000)
    .default(30_000)
    .describe('Limit: how long a client may take to send a JSON body, in milliseconds'),
  STRATA_DRAIN_MS: z.coerce
    .number()
    .int()
    .min(0)
    .default(10_000)
    .describe('After SIGTERM: how long requests and jobs under way are awaited, in milliseconds'),
}

/** What a service with an HTTP API reads besides. */
export const apiConfigShape = {
  STRATA_BODY_MEMORY: z.coerce
    .number()
    .int()
    .min(4)
    .max(65_536)
    .default(64)
    .describe(
      'Limit: MiB of all JSON bodies together that are being read; a body that does not fit is refused with 503. One body has at most 4 MiB',
    ),
}

const MEBIBYTE = 1024 * 1024
const MAX_JSON_BODY = 4 * MEBIBYTE

type Limits = Pick<
  z.infer<z.ZodObject<typeof serviceConfigShape>>,
  'STRATA_MAX_CONNECTIONS' | 'STRATA_HEADERS_TIMEOUT_MS' | 'STRATA_UNREAD_TIMEOUT_MS' | 'STRATA_BODY_TIMEOUT_MS'
>

export function listenerLimits({
  STRATA_MAX_CONNECTIONS,
  STRATA_HEADERS_TIMEOUT_MS,
  STRATA_UNREAD_TIMEOUT_MS,
}: Limits): ListenerLimits {
  return {
    connections: STRATA_MAX_CONNECTIONS,
    headersMs: STRATA_HEADERS_TIMEOUT_MS,
    unreadMs: STRATA_UNREAD_TIMEOUT_MS,
  }
}

export function bodyLimits({
  STRATA_BODY_TIMEOUT_MS,
  STRATA_BODY_MEMORY,
}: Limits & z.infer<z.ZodObject<typeof apiConfigShape>>): BodyLimits {
  return { bytes: MAX_JSON_BODY, memory: STRATA_BODY_MEMORY * MEBIBYTE, timeoutMs: STRATA_BODY_TIMEOUT_MS }
}
