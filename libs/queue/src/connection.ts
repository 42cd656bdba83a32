import { StrataError } from '@strata/base'
import { Redis, type RedisOptions } from 'ioredis'

/** Where Redis is: `unix:///path/to/socket` or `redis://[user:password@]host:port[/db]`. */
export type RedisUrl = string

function connect(url: RedisUrl, options: RedisOptions): Redis {
  const common: RedisOptions = {
    retryStrategy: (times) => Math.min(50 * 2 ** Math.min(times, 6), 1000),
    // Without it NODE_TLS_REJECT_UNAUTHORIZED decides, and anyone may get the password.
    ...(url.startsWith('rediss:') && { tls: { rejectUnauthorized: true } }),
    ...options,
  }
  const client = url.startsWith('unix://')
    ? new Redis({ path: url.slice('unix://'.length), ...common })
    : new Redis(url, common)
  // Without a listener a lost connection would end the process; ioredis reconnects by itself, and
  // commands fail or wait as configured below.
  client.on('error', () => undefined)
  return client
}

/**
 * For requests: a command fails within 2.5 s instead of waiting for Redis to come back, so that the
 * caller gets its 503.
 */
export function producerConnection(url: RedisUrl): Redis {
  return connect(url, {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    commandTimeout: 2_500,
    connectTimeout: 2_000,
  })
}

/**
 * For workers and subscribers: commands wait for ever; work goes on by itself when Redis is back.
 */
export function workerConnection(url: RedisUrl): Redis {
  return connect(url, { maxRetriesPerRequest: null })
}

/**
 * For a subscriber, which subscribes itself each time it is connected: ioredis does so after
 * `ready`, and does not say when Redis has done it.
 */
export function subscriberConnection(url: RedisUrl): Redis {
  return connect(url, { maxRetriesPerRequest: null, autoResubscribe: false })
}

/** Runs a command of a request; what Redis' absence throws becomes `queue_unavailable`. */
export async function orUnavailable<T>(work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (cause) {
    if (cause instanceof StrataError) throw cause
    throw new StrataError('queue_unavailable', 'Redis does not answer; try again in a moment', { cause })
  }
}

export async function whenReady(client: Redis): Promise<void> {
  if (client.status === 'ready') return
  await new Promise<void>((resolve) => client.once('ready', () => resolve()))
}
