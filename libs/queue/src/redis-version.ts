import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { migrate, type Migration, type VersionedPlace } from '@strata/base'
import type { Redis } from 'ioredis'
import { KEY } from './keys.js'

/** The lock is renewed three times in that. */
const LOCK_MS = 10_000
const ASK_EVERY_MS = 250

/**
 * What the versions of the data in Redis are, and how each is made of the one before (laws:
 * `Migration` of `@strata/base`). Version 1 is what commit d5153a4 writes. A job's new member or
 * kind is a version of its own if a release that does not know it would do something else, or
 * nothing, instead of refusing the job.
 *
 * Services that run note the version again in a Redis that was emptied. Until they do, the first
 * version counts there: a migration finds new data beside it, as its laws say.
 */
const REDIS_MIGRATIONS: readonly Migration<Redis>[] = [
  {
    // Releases of version 1 would start what such a job only creates, and have no worker for the
    // queues `assemble.<node>`: they must not come to these jobs.
    does: 'jobs may create a container without starting it, and assemblies have queues of their own',
    mayWait: true,
    run: () => Promise.resolve(),
  },
  {
    // Releases of version 2 have no worker for the queue `pull`: these jobs would wait for ever.
    does: 'pulls have a queue',
    mayWait: true,
    run: () => Promise.resolve(),
  },
]

/** Both for the owner of the lock alone. */
const RENEW = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0`
const RELEASE = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`
/** Never lowers it: a process that lost the lock may come late. */
const NOTE = `if tonumber(ARGV[1]) > tonumber(redis.call('GET', KEYS[1]) or 0) then redis.call('SET', KEYS[1], ARGV[1]) end return 1`

/** The version of the data in Redis: a number under `strata:version`. */
class RedisVersion implements VersionedPlace {
  readonly what = 'Redis'

  constructor(private readonly redis: Redis) {}

  async read(): Promise<number | undefined> {
    const version = Number(await this.redis.get(KEY.version))
    return Number.isSafeInteger(version) && version >= 1 ? version : undefined
  }

  async write(version: number): Promise<void> {
    await this.redis.eval(NOTE, 1, KEY.version, version)
  }

  async exclusively(work: () => Promise<void>): Promise<void> {
    const owner = randomUUID()
    while ((await this.redis.set(KEY.versionLock, owner, 'PX', LOCK_MS, 'NX')) !== 'OK') await delay(ASK_EVERY_MS)
    // One that fails is made up for by the next, or the lock is lost: the migrations allow for
    // that.
    const renew = (): void => void this.redis.eval(RENEW, 1, KEY.versionLock, owner, LOCK_MS).catch(() => undefined)
    const renewal = setInterval(renew, LOCK_MS / 3)
    try {
      await work()
    } finally {
      clearInterval(renewal)
      await this.redis.eval(RELEASE, 1, KEY.versionLock, owner)
    }
  }
}

/** @throws StrataError `data_newer` */
export function migrateRedis(redis: Redis, tell: (message: string) => void): Promise<void> {
  return migrate(new RedisVersion(redis), REDIS_MIGRATIONS, redis, { tell })
}
