import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { Redis } from 'ioredis'
import type { ContainerView, CreateContainer, JobView, Problem } from '@strata/api'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { layerOf, loadBusybox } from './testing/busybox-image.js'
import { StrataUnderTest, until } from './testing/strata.js'

/**
 * Stands in everything that a caller says of a process. Text that Redis, a log or another caller's
 * answer must never have.
 */
const MARKER = `sealed-${randomUUID().slice(0, 8)}`

let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start({ environment: { STRATA_LOG_LEVEL: 'debug' } })
  const over = await layerOf({
    [`bin/${MARKER}-plain`]: { content: 'no program' },
    [`${MARKER}-folder/file`]: { content: 'x' },
  })
  await loadBusybox(strata, 't/box', [over])
})
afterAll(() => strata.dispose())

/** Every key of Redis with all that it holds, and the bytes of its append-only file. */
async function everythingInRedis(): Promise<string> {
  const redis = new Redis({ path: strata.redisSocket })
  const read: Record<string, (key: string) => Promise<unknown>> = {
    string: (key) => redis.get(key),
    hash: (key) => redis.hgetall(key),
    list: (key) => redis.lrange(key, 0, -1),
    set: (key) => redis.smembers(key),
    zset: (key) => redis.zrange(key, '0', '-1'),
    stream: (key) => redis.xrange(key, '-', '+'),
  }
  const found: string[] = []
  try {
    for (let cursor = ''; cursor !== '0';) {
      const [next, keys] = await redis.scan(cursor || '0')
      cursor = next
      for (const key of keys) {
        const type = await redis.type(key)
        // Expired since it was listed.
        if (type === 'none') continue
        found.push(key, JSON.stringify(await read[type]!(key)))
      }
    }
  } finally {
    redis.disconnect()
  }
  const folder = join(strata.data, 'redis', 'appendonlydir')
  return [...found, ...readdirSync(folder).map((name) => readFileSync(join(folder, name), 'latin1'))].join('\n')
}

const launch = async (
  request: Partial<CreateContainer>,
  job = randomUUID(),
): Promise<{ status: number; job: string; problem: Problem }> => {
  const answer = await strata.request('POST', `/v1/containers?job=${job}`, { image: 't/box', ...request })
  return { status: answer.status, job, problem: answer.json<Problem>() }
}

/** What is wrong, the code, and whether the caller's sentence quotes what he gave. */
const FAILURES: readonly (readonly [string, string, boolean, Partial<CreateContainer>])[] = [
  ['a command that is not there', 'command_not_found', true, { command: [`${MARKER}-command`] }],
  [
    'an entrypoint that is not there',
    'command_not_found',
    true,
    { entrypoint: [`/bin/${MARKER}-entrypoint`], command: [MARKER] },
  ],
  ['a command that is not executable', 'command_not_executable', true, { command: [`/bin/${MARKER}-plain`] }],
  ['a folder as the command', 'command_not_executable', true, { command: [`/${MARKER}-folder`] }],
  ['a command below a file', 'launch_failed', true, { command: [`/bin/${MARKER}-plain/x`] }],
  ['a NUL in the command', 'bad_request', false, { command: ['echo', `${MARKER}\0`] }],
  ['a variable without a name', 'bad_request', false, { command: ['true'], env: [`=${MARKER}`] }],
  ['a working directory that is a file', 'launch_failed', true, { command: ['true'], workdir: `/bin/${MARKER}-plain` }],
  ['a working directory in /proc', 'launch_failed', true, { command: ['true'], workdir: `/proc/${MARKER}` }],
  ['a working directory that is not absolute', 'bad_request', true, { command: ['true'], workdir: MARKER }],
  ['a user that is not there', 'launch_failed', true, { command: ['true'], user: MARKER }],
  ['a host name that is none', 'bad_request', false, { command: ['true'], hostname: `${MARKER} ${MARKER}` }],
]

describe('what a caller says of a process does not leave the node when its launch fails', () => {
  it.each(
    FAILURES.flatMap(([what, ...rest]) => [
      [what, false, ...rest] as const,
      [`${what}, of a container that was to be removed`, true, ...rest] as const,
    ]),
  )(
    '%s',
    async (_, autoRemove, code, quotes, request) => {
      const { status, job, problem } = await launch({ ...request, autoRemove })
      expect({ code: problem.code, status }).toEqual({ code, status: code === 'bad_request' ? 400 : 422 })
      if (quotes) expect(problem.detail).toContain(MARKER)
      else expect(problem.detail).not.toMatch(/^[A-Z]/)
      const record = (await strata.request('GET', `/v1/jobs/${job}`)).json<JobView>()
      // What the gateway itself refuses is no job.
      expect(record).toMatchObject(
        'code' in record && code === 'bad_request' ? { code: 'job_not_found' } : { state: 'failed', error: { code } },
      )
      expect(JSON.stringify(record)).not.toContain(MARKER)
      expect((await buffer(await strata.open('GET', `/v1/jobs/${job}/events`))).toString()).not.toContain(MARKER)
    },
    60_000,
  )

  it('nor when it succeeds, and a gateway that has only what was published knows neither command nor reason', async () => {
    const { status } = await launch({
      command: ['echo', MARKER],
      env: [`SECRET=${MARKER}`],
      workdir: `/tmp/${MARKER}`,
      user: '0',
      hostname: MARKER,
      name: 'well',
    })
    expect(status).toBe(201)
    expect((await strata.request('POST', '/v1/containers/well/wait')).json()).toEqual({ exitCode: 0 })
    await until(async () => (await strata.containers()).some(({ exitCode }) => exitCode === 0), 'its end to be told')
    const failed = (await strata.containers()).filter(({ reason }) => reason !== undefined)
    expect(failed.filter(({ reason }) => reason!.includes(MARKER)).length).toBeGreaterThanOrEqual(7)
    const redis = new Redis({ path: strata.redisSocket })
    const published = Object.values(await redis.hgetall(`strata:containers:${strata.node.id}`)).map(
      (text) => JSON.parse(text) as ContainerView,
    )
    redis.disconnect()
    expect(published.find(({ name }) => name === 'well')).toMatchObject({ command: [], exitCode: 0 })
    expect([...new Set(published.flatMap(({ reason }) => reason ?? []))].sort()).toEqual([
      'The command cannot be run',
      'The command was not found',
      'The container could not be started',
    ])
  })

  it('the CLI says it in full, with docker’s exit codes', async () => {
    const run = async (...args: string[]) => {
      const { code, stderr } = await strata.cli(['run', '--rm', ...args])
      return { code, says: stderr.includes(MARKER) }
    }
    expect(await run('t/box', `${MARKER}-command`)).toEqual({ code: 127, says: true })
    expect(await run('t/box', `/bin/${MARKER}-plain`)).toEqual({ code: 126, says: true })
    expect(await run('-u', MARKER, 't/box', 'true')).toEqual({ code: 125, says: true })
  })

  it('Redis, its append-only file, the list of jobs and the logs have none of it, also after a new start', async () => {
    const look = async (): Promise<void> => {
      const redis = await everythingInRedis()
      // It would find what is there.
      expect(redis).toContain('t/box')
      expect(redis).toContain('The command was not found')
      expect(redis).not.toContain(MARKER)
      expect((await strata.request('GET', '/v1/jobs?limit=1000')).bytes.toString()).not.toContain(MARKER)
      expect(strata.log).not.toContain(MARKER)
    }
    await look()
    await strata.stop()
    await strata.startProcesses()
    expect((await strata.containers()).some(({ reason }) => reason?.includes(MARKER))).toBe(true)
    await look()
  })
})
