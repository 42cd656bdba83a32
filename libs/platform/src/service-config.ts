import { z } from 'zod'
import { parseTcpDoor } from './doors.js'

/** `HOST:PORT`, `[v6]:PORT`. */
export const hostPort = z.string().refine(isHostPort, 'must be HOST:PORT')
export const absolutePath = z.string().startsWith('/', 'must be an absolute path')
export const nodeId = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be lower-case letters, digits and -')

function isHostPort(text: string): boolean {
  try {
    parseTcpDoor(text)
    return true
  } catch {
    return false
  }
}

/** What every service reads. A field's description is its line in docs/configuration.md and in `--help`. */
export const serviceConfigShape = {
  STRATA_REDIS: z.string().regex(/^(unix:\/\/\/|rediss?:\/\/).+/, 'must be unix:///SOCKET or redis://[USER:PASSWORD@]HOST:PORT[/DB]').describe('Redis: unix:///SOCKET or redis://[USER:PASSWORD@]HOST:PORT[/DB]'),
  STRATA_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info').describe('The least level of log lines'),
  STRATA_HEALTH: z
    .string()
    .refine((text) => text.startsWith('/') || isHostPort(text), 'must be HOST:PORT or the absolute path of a socket')
    .optional()
    .describe('HOST:PORT, or the path of a unix socket, where /health/live and /health/ready answer; no token is asked for'),
  STRATA_DRAIN_MS: z.coerce.number().int().min(0).default(10_000).describe('After SIGTERM: how long requests and jobs under way are awaited, in milliseconds'),
}
