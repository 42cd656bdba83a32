import { isDeepStrictEqual } from 'node:util'
import { MAX_PAGE, PAGE_BYTES, type JobKind, type LayerProgress } from '@strata/api'
import { StrataError, toldToAll } from '@strata/base'
import type { Redis } from 'ioredis'
import { orUnavailable } from './connection.js'
import { encodeFailure } from './jobs/failure.js'
import { ENDS, isListable, toRecord, type JournalRecord } from './journal-record.js'
import { CHANNEL, KEY } from './keys.js'
import type { Signals } from './signals.js'

export interface JournalChange {
  readonly state?: 'waiting' | 'active'
  readonly step?: string
  readonly bytes?: number
  readonly entries?: number
  readonly total?: number
  /** Of a pull: at most `MAX_TOLD_LAYERS`. */
  readonly layers?: readonly LayerProgress[]
}

const KEPT_SECONDS = 24 * 3600
const REMEMBERED_SECONDS = 30 * 24 * 3600
/** Records of a page that are read at the same time. */
const AT_ONCE = 50

/**
 * KEYS record, `was`, jobs, the requests of its container or `''` · ARGV id, now, fields. The id is
 * used, and the record there, in one step: a crash leaves both or neither.
 */
const CREATE = `
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
if KEYS[4] ~= '' then
  redis.call('SADD', KEYS[4], ARGV[1])
  redis.call('EXPIRE', KEYS[4], ${REMEMBERED_SECONDS})
end
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', ARGV[2] - ${REMEMBERED_SECONDS * 1000})
return 1`

/**
 * Whose write it is: a job's lock as its run holds it (BullMQ's key, and the token of this run).
 * The write is made only while the lock is still that run's, which is checked in the same step:
 * another run may have the job by now.
 */
export interface JobLock {
  readonly key: string
  readonly token: string
}

/**
 * How a run of a job ends that has lost its lock: it stood still for too long, or Redis lost the
 * job. Another run has the job or will have it, and that one ends what is to be ended. So a handler
 * lets this through, as `WaitingForChildren`.
 */
export class LostRun extends Error {
  override readonly name = 'LostRun'
  constructor(what: string) {
    super(`another run of ${what} has taken over, or Redis has lost the job: this run ends nothing`)
  }
}

const WRITTEN = 1
const LOST = -1
/**
 * One write: nothing changes a record that has ended, so that a worker which comes late cannot undo
 * the end.
 */
const WRITE = `
if ARGV[4] ~= '' and redis.call('GET', KEYS[3]) ~= ARGV[4] then return ${LOST} end
local state = redis.call('HGET', KEYS[1], 'state')
if not state or state == 'completed' or state == 'failed' or state == 'cancelled' then return 0 end
if ARGV[2] ~= '' and ARGV[2] ~= state then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('HINCRBY', KEYS[1], 'seq', 1)
if ARGV[3] == '1' then
  redis.call('EXPIRE', KEYS[1], ${KEPT_SECONDS})
  redis.call('SET', KEYS[2], '1', 'EX', ${REMEMBERED_SECONDS})
  local container = redis.call('HGET', KEYS[1], 'container')
  if container then redis.call('SREM', '${KEY.requests('')}' .. container, ARGV[1]) end
end
redis.call('PUBLISH', '${CHANNEL.changed}', ARGV[1])
return ${WRITTEN}`

/**
 * KEYS record, `was`, lock · ARGV token. In one step: the run has its job, and the request has not
 * ended. A record that was never made is of a job that no gateway added.
 */
const UNDER_WAY = `
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return ${LOST} end
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 1 - redis.call('EXISTS', KEYS[2]) end
if state == 'completed' or state == 'failed' or state == 'cancelled' then return 0 end
return 1`

/**
 * KEYS jobs · ARGV id, how many. The ids behind that one, the newest first; false if it is not
 * known. One step: a job that comes between two commands would move all ranks.
 */
const BEHIND = `
local rank = redis.call('ZREVRANK', KEYS[1], ARGV[1])
if not rank then return false end
return redis.call('ZREVRANGE', KEYS[1], rank + 1, rank + ARGV[2])`

/**
 * The records of requests: made at the first byte, followed by anyone, ended once.
 *
 *     create ─▶ receiving ─▶ waiting ─▶ active ─▶ completed | failed | cancelled      (an end is final; kept a day)
 * Progress is written at most 5 times a second by whoever does the work: the caller bounds it.
 *
 * A run of a job writes with its `lock`. If it has lost the lock, `update` writes nothing and
 * `complete` and `fail` throw `LostRun`.
 */
export class Journal {
  constructor(
    private readonly redis: Redis,
    private readonly signals: Signals,
  ) {}

  /** `job_exists` where the id was used, also long ago. */
  async create(
    id: string,
    kind: JobKind,
    state: 'receiving' | 'waiting',
    { total, container }: Pick<JournalRecord, 'total' | 'container'> = {},
  ): Promise<void> {
    const now = new Date().toISOString()
    const fields = {
      id,
      kind,
      state,
      step: state,
      bytes: '0',
      entries: '0',
      createdAt: now,
      updatedAt: now,
      seq: '1',
      ...(total === undefined ? {} : { total: String(total) }),
      ...(container === undefined ? {} : { container }),
    }
    const made = await orUnavailable(
      this.redis.eval(
        CREATE,
        4,
        KEY.job(id),
        KEY.jobWas(id),
        KEY.jobs,
        container === undefined ? '' : KEY.requests(container),
        id,
        Date.now(),
        ...Object.entries(fields).flat(),
      ),
    )
    if (made !== 1) throw new StrataError('job_exists', `the job id ${id} was used before`)
  }

  /** Makes the record of a request again that Redis has lost, unless another has done so. */
  async restore(id: string, kind: JobKind): Promise<void> {
    await this.create(id, kind, 'waiting').catch((error: unknown) => {
      if (!(error instanceof StrataError && error.code === 'job_exists')) throw error
    })
  }

  async update(id: string, { layers, ...change }: JournalChange, lock?: JobLock): Promise<boolean> {
    const fields = { ...change, ...(layers && { layers: JSON.stringify(layers) }) }
    return (await this.#write(id, '', false, fields, lock)) === WRITTEN
  }

  /** @throws LostRun */
  async complete(id: string, result: unknown, lock?: JobLock): Promise<boolean> {
    return this.#end(id, '', { state: 'completed', step: 'done', result: JSON.stringify(result) }, lock)
  }

  /**
   * Ends the record; the code `cancelled` makes it cancelled, any other failed. What is kept of the
   * error is what everyone may read.
   * @throws LostRun
   */
  async fail(id: string, error: unknown, lock?: JobLock): Promise<boolean> {
    const told = toldToAll(error)
    return this.#end(
      id,
      '',
      { state: told.code === 'cancelled' ? 'cancelled' : 'failed', error: JSON.stringify(told) },
      lock,
    )
  }

  /**
   * Asks all work of the request to stop, wherever it is. A request that no worker has yet is ended
   * here. `endWork` runs before that: it ends, outside Redis, what a later run would finish if
   * Redis lost both the record and the wish to cancel.
   */
  async cancel(id: string, endWork: () => Promise<void>): Promise<void> {
    const { state } = await this.get(id)
    await this.stopWork(id)
    if (state !== 'waiting') return
    await endWork()
    await this.#end(id, 'waiting', {
      state: 'cancelled',
      error: JSON.stringify({ code: 'cancelled', message: 'cancelled by request' }),
    })
  }

  /**
   * Aborts all work of the request for `reason`, without ending its record: whoever calls this ends
   * it. Of several reasons the first counts, so that a request ends as what stopped it, also where
   * the work that was stopped is asked first.
   */
  async stopWork(id: string, reason: unknown = new StrataError('cancelled', 'cancelled by request')): Promise<void> {
    await orUnavailable(
      this.redis
        .multi()
        .set(KEY.cancel(id), encodeFailure(reason), 'EX', KEPT_SECONDS, 'NX')
        .publish(CHANNEL.cancelled, id)
        .exec(),
    )
  }

  /**
   * @throws StrataError `job_not_found`; `job_expired` for one that ended more than a day ago;
   * `unsupported` if a newer version made it and this one does not know its kind or state
   */
  async get(id: string): Promise<JournalRecord> {
    return orUnavailable(
      (async () => {
        const fields = await this.redis.hgetall(KEY.job(id))
        if (fields['state'] !== undefined) return toRecord(fields)
        if ((await this.redis.exists(KEY.jobWas(id))) === 1)
          throw new StrataError('job_expired', `the job ${id} ended more than a day ago; its record is no longer kept`)
        throw new StrataError('job_not_found', `there is no job ${id}`)
      })(),
    )
  }

  /**
   * Rejects unless, in one step of Redis, this run has its job and the request has not ended. For
   * what must not begin after the end of its request, and is not itself a change in Redis.
   * @throws LostRun; how the request ended, if it has
   */
  async assertUnderWay(id: string, lock: JobLock): Promise<void> {
    const keys = [KEY.job(id), KEY.jobWas(id), lock.key]
    const outcome = await orUnavailable(this.redis.eval(UNDER_WAY, keys.length, ...keys, lock.token))
    if (outcome === LOST) throw new LostRun(`the job ${id}`)
    if (outcome === 1) return
    const { state, error } = await this.get(id)
    throw new StrataError(error?.code ?? 'cancelled', error?.message ?? `the request ${id} has ended as ${state}`)
  }

  /** How the request ended. `unknown`: Redis has no record of it, or dropped it after a day. */
  async endOf(id: string): Promise<JournalRecord | 'under way' | 'unknown'> {
    const fields = await orUnavailable(this.redis.hgetall(KEY.job(id)))
    if (fields['state'] === undefined) return 'unknown'
    const record = toRecord(fields)
    return ENDS.has(record.state) ? record : 'under way'
  }

  /**
   * The requests about this container that have not ended, in no order: also one whose job no
   * worker has, or is not queued yet.
   */
  async ofContainer(container: string): Promise<JournalRecord[]> {
    return orUnavailable(
      (async () => {
        const ids = await this.redis.smembers(KEY.requests(container))
        const found = await Promise.all(ids.map((id) => this.redis.hgetall(KEY.job(id))))
        return found
          .filter(isListable)
          .map(toRecord)
          .filter(({ state }) => !ENDS.has(state))
      })(),
    )
  }

  /**
   * A page of the newest first, from the one behind `after`: at most `limit`, and `PAGE_BYTES`. It
   * looks at no more than `MAX_PAGE` ids: those of jobs that ended more than a day ago have no
   * record. Jobs of a kind that this version does not know are left out.
   * @throws StrataError `bad_request` if the id `after` is not known, or not any more
   */
  async page(limit: number, after?: string): Promise<{ readonly jobs: JournalRecord[]; readonly next?: string }> {
    return orUnavailable(
      (async () => {
        const ids = await this.#idsBehind(after)
        const jobs: JournalRecord[] = []
        let bytes = 0
        for (let at = 0; at < ids.length; at += AT_ONCE) {
          const some = ids.slice(at, at + AT_ONCE)
          for (const fields of await Promise.all(some.map((id) => this.redis.hgetall(KEY.job(id))))) {
            if (!isListable(fields)) continue
            bytes += Object.values(fields).reduce((sum, text) => sum + Buffer.byteLength(text), 0)
            const last = jobs.at(-1)
            if (last && (jobs.length === limit || bytes > PAGE_BYTES)) return { jobs, next: last.id }
            jobs.push(toRecord(fields))
          }
        }
        const next = ids.length < MAX_PAGE ? undefined : ids.at(-1)
        return { jobs, ...(next === undefined ? {} : { next }) }
      })(),
    )
  }

  /** At most `MAX_PAGE` ids, the newest first. */
  async #idsBehind(after: string | undefined): Promise<string[]> {
    if (after === undefined) return this.redis.zrevrange(KEY.jobs, 0, MAX_PAGE - 1)
    const ids = (await this.redis.eval(BEHIND, 1, KEY.jobs, after, MAX_PAGE)) as string[] | null
    if (ids === null)
      throw new StrataError('bad_request', `no list of jobs has the id ${after} any more: begin with the first page`)
    return ids
  }

  /**
   * The newest first, at most `limit`; of these, those of `except` are neither read nor given.
   * Those of a kind that this version does not know are left out.
   */
  async list(limit: number, except?: ReadonlySet<string>): Promise<JournalRecord[]> {
    return orUnavailable(
      (async () => {
        const ids = (await this.redis.zrevrange(KEY.jobs, 0, limit - 1)).filter((id) => !except?.has(id))
        const records = await Promise.all(ids.map((id) => this.redis.hgetall(KEY.job(id))))
        return records.filter(isListable).map(toRecord)
      })(),
    )
  }

  /**
   * The record now, then at each change, until it has ended or `signal` aborts. Changes that come
   * faster than they are read are joined. While Redis is away nothing is given, and the follower
   * hears of what happened meanwhile when it is back.
   * @throws StrataError `job_not_found`, `job_expired`; `queue_unavailable` if Redis is away at the
   * start
   */
  async *follow(id: string, signal: AbortSignal): AsyncGenerator<JournalRecord> {
    let wake: (() => void) | undefined
    let seen: JournalRecord | undefined
    const news = { unread: true }
    const notify = (): void => {
      news.unread = true
      wake?.()
    }
    const stopListening = this.signals.onChange(id, notify)
    signal.addEventListener('abort', notify)
    try {
      while (!signal.aborted) {
        if (!news.unread) {
          await new Promise<void>((resolve) => (wake = resolve))
          continue
        }
        news.unread = false
        const record = await this.get(id).catch((error: unknown) => {
          // It was there: the request goes on without Redis, and is read again when there is news,
          // or at the next reread.
          if (seen && error instanceof StrataError && error.code === 'queue_unavailable') return seen
          throw error
        })
        if (isDeepStrictEqual(record, seen)) continue
        seen = record
        yield record
        if (ENDS.has(record.state)) return
      }
    } finally {
      stopListening()
      signal.removeEventListener('abort', notify)
    }
  }

  /** The record once it has ended. */
  async end(id: string, signal: AbortSignal): Promise<JournalRecord> {
    for await (const record of this.follow(id, signal)) if (ENDS.has(record.state)) return record
    throw new StrataError('cancelled', 'the request was given up')
  }

  async #end(id: string, only: string, fields: Record<string, string | undefined>, lock?: JobLock): Promise<boolean> {
    const outcome = await this.#write(id, only, true, fields, lock)
    if (outcome === LOST) throw new LostRun(`the job ${id}`)
    return outcome === WRITTEN
  }

  async #write(
    id: string,
    only: string,
    ends: boolean,
    fields: Record<string, string | number | undefined>,
    lock?: JobLock,
  ): Promise<unknown> {
    const all: Record<string, string | number | undefined> = { ...fields, updatedAt: new Date().toISOString() }
    const flat = Object.entries(all).flatMap(([key, value]) => (value === undefined ? [] : [key, String(value)]))
    const keys = [KEY.job(id), KEY.jobWas(id), lock?.key ?? '']
    return orUnavailable(
      this.redis.eval(WRITE, keys.length, ...keys, id, only, ends ? '1' : '0', lock?.token ?? '', ...flat),
    )
  }
}
