import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { frame, sendJson, sendProblem, ServiceDouble } from '../testing/service-double.js'
import { outcome, start, strata } from '../testing/strata.js'

const id = 'c0'.repeat(32)
const LOGS = `GET /v1/containers/${id}/logs`
const WAIT = `POST /v1/containers/${id}/wait`

async function launching(): Promise<ServiceDouble> {
  return (await ServiceDouble.start()).json('POST /v1/containers', 201, { id })
}

it('gives the output apart, the exit code, and the options to the service', async () => {
  await using service = await launching()
  service
    .json(WAIT, 200, { exitCode: 7 })
    .on(LOGS, (_seen, response) =>
      response.end(Buffer.concat([frame(1, 'out\n'), frame(2, 'err\n'), frame(1, 'more\n')])),
    )
  const file = join(service.folder, 'env')
  await writeFile(file, '# comment\nFILE=1\nHOME\n')
  const args = [
    'run',
    '--rm',
    '-e',
    'A=b',
    '--env-file',
    file,
    '-w',
    '/w',
    '-u',
    '1:2',
    '-h',
    'host',
    '--network',
    'host',
    '--name',
    'n',
    '--entrypoint',
    '/e',
    'img',
    'cmd',
    '-e',
    '--rm',
    '--',
    '-p',
  ]
  expect(await strata(service, args)).toEqual({ code: 7, signal: null, stdout: 'out\nmore\n', stderr: 'err\n' })
  expect(JSON.parse((await service.asked('POST', '/v1/containers')).body.toString())).toEqual({
    image: 'img',
    attach: true,
    command: ['cmd', '-e', '--rm', '--', '-p'],
    entrypoint: ['/e'],
    env: ['FILE=1', 'HOME=/nonexistent', 'A=b'],
    workdir: '/w',
    user: '1:2',
    hostname: 'host',
    name: 'n',
    network: 'host',
    autoRemove: true,
  })
  expect((await service.asked('GET', '/v1/containers')).url).toContain('attach=true')
})

it('prints the id with -d, and does not attach', async () => {
  await using service = await launching()
  expect(await strata(service, ['run', '-d', 'img'])).toMatchObject({ code: 0, stdout: `${id}\n` })
  expect(service.seen).toHaveLength(1)
  expect(JSON.parse(service.seen[0]?.body.toString() ?? '')).toEqual({ image: 'img', attach: false })
})

it.each([
  ['command_not_found', 127],
  ['command_not_executable', 126],
  ['image_not_found', 125],
  ['nothing_to_run', 125],
])('ends with docker’s code for %s', async (code, exit) => {
  await using service = await ServiceDouble.start()
  service.problem('POST /v1/containers', 400, code, 'that went wrong')
  expect(await strata(service, ['run', '--pull', 'never', 'img'])).toMatchObject({
    code: exit,
    stderr: 'strata: Error response: that went wrong\n',
  })
})

it('says why a container ended without a code of its own', async () => {
  await using service = await launching()
  service.json(WAIT, 200, { exitCode: 125, reason: 'start interrupted' }).on(LOGS, (_seen, response) => response.end())
  expect(await strata(service, ['run', 'img'])).toMatchObject({ code: 125, stderr: 'strata: start interrupted\n' })
})

it('loses nothing through a pipe that pauses, and holds the service back meanwhile', async () => {
  await using service = await launching()
  const piece = Buffer.alloc(8192)
  const hash = createHash('sha256')
  const total = 32 * 1024 * 1024
  let sent = 0
  const blocked = Promise.withResolvers<undefined>()
  const send = async (response: ServerResponse): Promise<void> => {
    while (sent < total) {
      piece.writeUInt32LE(sent)
      hash.update(piece)
      sent += piece.length
      if (!response.write(frame(1, piece))) {
        if (sent > 128 * 1024) blocked.resolve(undefined)
        await once(response, 'drain')
      }
    }
    response.end()
  }
  service.json(WAIT, 200, { exitCode: 0 }).on(LOGS, (_seen, response) => void send(response))
  const child = start(service, ['run', 'img'])
  child.stdin.end()
  const exit = once(child, 'exit')
  await blocked.promise
  const got = createHash('sha256')
  let received = 0
  let ahead = 0
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    got.update(chunk)
    received += chunk.length
    ahead = Math.max(ahead, sent - received)
  }
  expect(await exit).toEqual([0, null])
  expect(received).toBe(total)
  expect(got.digest('hex')).toBe(hash.digest('hex'))
  expect(ahead).toBeLessThan(8 * 1024 * 1024)
})

it.each(['SIGINT', 'SIGTERM', 'SIGUSR1', 'SIGHUP'] as const)(
  'passes %s on to the container, as often as it comes',
  async (signal) => {
    await using service = await launching()
    const logs = Promise.withResolvers<ServerResponse>()
    const waited = Promise.withResolvers<ServerResponse>()
    service.on(LOGS, (_seen, response) => {
      response.write(frame(1, 'ready\n'))
      logs.resolve(response)
    })
    service.on(WAIT, (_seen, response) => waited.resolve(response))
    let kills = 0
    service.on(`POST /v1/containers/${id}/kill`, (seen, response) => {
      expect(JSON.parse(seen.body.toString())).toEqual({ signal })
      sendJson(response, 204)
      if (++kills === 1) child.kill(signal)
      else
        void Promise.all([logs.promise, waited.promise]).then(([log, wait]) => {
          log.end(frame(1, 'bye\n'))
          sendJson(wait, 200, { exitCode: 143 })
        })
    })
    const child = start(service, ['run', 'img'])
    const ended = outcome(child)
    await Promise.all([logs.promise, waited.promise])
    child.kill(signal)
    expect(await ended).toMatchObject({ code: 143, stdout: 'ready\nbye\n' })
  },
)

it('takes a launch back when the signal comes before the container', async () => {
  await using service = await ServiceDouble.start()
  const launch = Promise.withResolvers<ServerResponse>()
  service.on('POST /v1/containers', (_seen, response) => launch.resolve(response))
  service.on('DELETE /v1/jobs/{job}', (_seen, response) => {
    sendJson(response, 202)
    void launch.promise.then((waiting) => sendProblem(waiting, 409, 'cancelled', 'the job was cancelled'))
  })
  const child = start(service, ['run', 'img'])
  const ended = outcome(child)
  await launch.promise
  child.kill('SIGINT')
  expect(await ended).toMatchObject({ code: 130, stderr: 'strata: the launch was cancelled\n' })
})

it('ends when nobody reads its output any more', async () => {
  await using service = await launching()
  service
    .on(WAIT, () => undefined)
    .on(LOGS, (_seen, response) => {
      const more = (): void => {
        while (response.write(frame(1, Buffer.alloc(8192, 'y'))));
      }
      response.on('drain', more)
      more()
    })
  const child = start(service, ['run', 'img'])
  child.stdout.once('data', () => child.stdout.destroy())
  const [code] = (await once(child, 'exit')) as [number]
  expect(code).toBe(1)
})

it('says so when the service breaks off', async () => {
  await using service = await launching()
  service
    .on(WAIT, () => undefined)
    .on(LOGS, (_seen, response) => {
      response.write(frame(1, 'half').subarray(0, 10))
      setImmediate(() => response.destroy())
    })
  const result = await strata(service, ['run', 'img'])
  expect(result.code).toBe(125)
  expect(result.stderr).toMatch(/^strata: .*(broke|cut)/)
})
