import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadBusybox } from './testing/busybox-image.js'
import { leftOnNode, StrataUnderTest, until } from './testing/strata.js'

const MEBIBYTE = 1024 * 1024

let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start()
  await loadBusybox(strata, 't/box')
})
afterAll(async () => {
  await strata.dispose()
})

describe('much output', () => {
  it('100 MB of random bytes arrive byte for byte through a pipe whose reader pauses for 5 s', async () => {
    // The sum is made inside, of the same bytes that are sent.
    const child = strata.spawnCli([
      'run',
      '--rm',
      't/box',
      'sh',
      '-c',
      'mkfifo /p; sha256sum < /p >&2 & dd if=/dev/urandom bs=1M count=100 2>/dev/null | tee /p; wait',
    ])
    const hash = createHash('sha256')
    let size = 0
    let stderr = ''
    child.stderr?.on('data', (piece: Buffer) => (stderr += piece.toString()))
    const closed = new Promise((resolve) => child.once('close', resolve))
    let paused = false
    for await (const piece of child.stdout as AsyncIterable<Buffer>) {
      hash.update(piece)
      size += piece.length
      if (!paused && size > 10 * MEBIBYTE) {
        paused = true
        await pause(5_000)
      }
    }
    expect(await closed).toBe(0)
    expect(size).toBe(100 * MEBIBYTE)
    expect(stderr).toBe(`${hash.digest('hex')}  -\n`)
    expect(leftOnNode(strata.node)).toEqual([])
  })
})

describe('run --rm that is killed', () => {
  it('leaves nothing once its container ends', async () => {
    const child = strata.spawnCli([
      'run',
      '--rm',
      '--name',
      'orphan',
      't/box',
      'sh',
      '-c',
      'echo ready; while [ ! -e /go ]; do usleep 10000; done',
    ])
    await new Promise((resolve) => child.stdout?.once('data', resolve))
    child.kill('SIGKILL')
    await new Promise((resolve) => child.once('close', resolve))
    const [container] = await strata.containers()
    expect(container).toMatchObject({ name: 'orphan', state: 'running' })
    await strata.cli(['kill', 'orphan'])
    await until(async () => (await strata.containers()).length === 0, 'it is removed')
    expect(leftOnNode(strata.node)).toEqual([])
  })

  it('also when its node was killed and started again meanwhile', async () => {
    const child = strata.spawnCli([
      'run',
      '--rm',
      '--name',
      'orphan',
      't/box',
      'sh',
      '-c',
      'echo ready; while :; do usleep 10000; done',
    ])
    await new Promise((resolve) => child.stdout?.once('data', resolve))
    child.kill('SIGKILL')
    await strata.stop('SIGKILL')
    await strata.startProcesses()
    expect(await strata.containers()).toMatchObject([{ name: 'orphan', state: 'running' }])
    await strata.cli(['kill', 'orphan'])
    await until(async () => (await strata.containers()).length === 0, 'it is removed')
    expect(leftOnNode(strata.node)).toEqual([])
    expect((await strata.cli(['run', '--rm', '--name', 'orphan', 't/box', 'true'])).code).toBe(0)
  })
})

describe('a launch that is taken back', () => {
  it('before a node has it leaves neither container nor name', async () => {
    const job = randomUUID()
    const launch = strata.request('POST', `/v1/containers?job=${job}`, {
      image: 't/box',
      name: 'withdrawn',
      command: ['sleep', '1000'],
    })
    await until(async () => (await strata.request('DELETE', `/v1/jobs/${job}`)).status !== 404, 'the job is there')
    const { status, bytes } = await launch
    // It may have been too late, which is no failure.
    if (status === 201) await strata.cli(['rm', '-f', 'withdrawn'])
    else expect(JSON.parse(bytes.toString())).toMatchObject({ code: 'cancelled' })
    await until(async () => (await strata.containers()).length === 0, 'no container')
    await until(
      async () => (await strata.cli(['run', '--rm', '--name', 'withdrawn', 't/box', 'true'])).code === 0,
      'the name is free',
    )
  })
})

describe('secrets', () => {
  it('of environment and arguments are in nothing that Redis holds or is told, nor in the log', async () => {
    const [inEnvironment, inCommand, inEntrypoint] = ['e', 'c', 'p'].map(
      (kind) => `canary-${kind}-${randomBytes(8).toString('hex')}`,
    ) as [string, string, string]
    const redis = new Redis({ path: strata.redisSocket })
    // All that any client sends while containers live, not only what is left of it. Read from a
    // bare socket: ioredis fails where the first command that it is shown comes in one packet with
    // the answer to MONITOR.
    const monitor = connect(strata.redisSocket)
    const seen: Buffer[] = []
    monitor.on('data', (data: Buffer) => seen.push(data)).write('MONITOR\r\n')
    await once(monitor, 'data')
    const made = await strata.request('POST', '/v1/containers', {
      image: 't/box',
      entrypoint: ['/bin/sh', '-c', `: ${inEntrypoint}; echo $TOKEN $0`],
      command: [inCommand],
      env: [`TOKEN=${inEnvironment}`],
    })
    const failed = await strata.request('POST', '/v1/containers', {
      image: 't/box',
      command: ['/no/such/program', inCommand],
      env: [`TOKEN=${inEnvironment}`],
    })
    expect(failed.status).toBe(422)
    const { id } = made.json<{ id: string }>()
    await strata.request('POST', `/v1/containers/${id}/wait`)
    expect((await strata.request('GET', `/v1/containers/${id}/logs?stream=stdout`)).bytes.toString()).toBe(
      `${inEnvironment} ${inCommand}\n`,
    )
    expect((await strata.request('GET', `/v1/containers/${id}`)).json()).toMatchObject({
      command: ['/bin/sh', '-c', `: ${inEntrypoint}; echo $TOKEN $0`, inCommand],
    })
    for (const { id } of await strata.containers()) await strata.request('DELETE', `/v1/containers/${id}`)
    monitor.destroy()
    const told = Buffer.concat(seen).toString()
    expect(told.split('\r\n').length).toBeGreaterThan(10)
    const everything = [told, ...(await dump(redis)), strata.log].join('\n')
    redis.disconnect()
    expect(everything).toContain(id)
    for (const secret of [inEnvironment, inCommand, inEntrypoint])
      expect(everything.includes(secret), secret).toBe(false)
  })
})

/** Every key with all it holds, as text. */
async function dump(redis: Redis): Promise<string[]> {
  const texts: string[] = []
  for (const key of await redis.keys('*')) {
    const kind = await redis.type(key)
    const value =
      kind === 'hash'
        ? await redis.hgetall(key)
        : kind === 'list'
          ? await redis.lrange(key, 0, -1)
          : kind === 'set'
            ? await redis.smembers(key)
            : kind === 'zset'
              ? await redis.zrange(key, '0', '-1')
              : kind === 'stream'
                ? await redis.xrange(key, '-', '+')
                : await redis.get(key)
    texts.push(`${key} ${JSON.stringify(value)}`)
  }
  return texts
}
