import type { ServerResponse } from 'node:http'
import { expect, it } from 'vitest'
import { frame, sendJson, sendProblem, ServiceDouble } from '../testing/service-double.js'
import { outcome, start, strata } from '../testing/strata.js'

const id = 'c0'.repeat(32)
const START = `POST /v1/containers/${id}/start`
const LOGS = `GET /v1/containers/${id}/logs`
const WAIT = `POST /v1/containers/${id}/wait`

it('create makes a container that nothing starts, and prints its id', async () => {
  await using service = (await ServiceDouble.start()).json('POST /v1/containers', 201, { id })
  const args = ['create', '--rm', '--name', 'n', '-e', 'A=b', 'img', 'cmd', '-e']
  expect(await strata(service, args)).toEqual({ code: 0, signal: null, stdout: `${id}\n`, stderr: '' })
  expect(service.seen).toHaveLength(1)
  expect(service.seen[0]?.url).toMatch(/\?job=[0-9a-f-]{36}&start=false$/)
  expect(JSON.parse(service.seen[0]?.body.toString() ?? '')).toEqual({
    image: 'img',
    command: ['cmd', '-e'],
    env: ['A=b'],
    name: 'n',
    autoRemove: true,
  })
})

it('create ends with 1 where it cannot, and with 125 for a flag that is not there', async () => {
  await using service = await ServiceDouble.start()
  service.problem('POST /v1/containers', 404, 'image_not_found', 'no such image')
  expect(await strata(service, ['create', '--pull', 'never', 'img'])).toMatchObject({
    code: 1,
    stderr: 'strata: Error response: no such image\n',
  })
  expect(await strata(service, ['create', '-d', 'img'])).toMatchObject({
    code: 125,
    stderr: "strata create: the flag -d is not supported. See 'strata create --help'\n",
  })
})

it('create is taken back by a signal that comes before the answer', async () => {
  await using service = await ServiceDouble.start()
  const launch = Promise.withResolvers<ServerResponse>()
  service.on('POST /v1/containers', (_seen, response) => launch.resolve(response))
  service.on('DELETE /v1/jobs/{job}', (_seen, response) => {
    sendJson(response, 202)
    void launch.promise.then((waiting) => sendProblem(waiting, 409, 'cancelled', 'the job was cancelled'))
  })
  const child = start(service, ['create', 'img'])
  const ended = outcome(child)
  await launch.promise
  child.kill('SIGINT')
  expect(await ended).toMatchObject({ code: 130, stdout: '' })
})

it('create takes away what was created although a signal came: before the service had the job', async () => {
  await using service = await ServiceDouble.start()
  const [launch, cancel] = [Promise.withResolvers<ServerResponse>(), Promise.withResolvers<undefined>()]
  service.on('POST /v1/containers', (_seen, response) => launch.resolve(response))
  service.on('DELETE /v1/jobs/{job}', (_seen, response) => {
    sendProblem(response, 404, 'job_not_found', 'there is no such job')
    cancel.resolve(undefined)
  })
  const removed = Promise.withResolvers<undefined>()
  service.on(`DELETE /v1/containers/${id}`, (_seen, response) => {
    sendJson(response, 204)
    removed.resolve(undefined)
  })
  const child = start(service, ['create', 'img'])
  const ended = outcome(child)
  const answer = await launch.promise
  child.kill('SIGINT')
  await cancel.promise
  sendJson(answer, 201, { id })
  expect(await ended).toMatchObject({ code: 130, stdout: '' })
  await removed.promise
})

it('start prints the names as they were given, says what fails, and goes on with the others', async () => {
  await using service = (await ServiceDouble.start())
    .json('POST /v1/containers/a/start', 200, { id })
    .problem('POST /v1/containers/b/start', 404, 'container_not_found', 'no such container: b')
    .json('POST /v1/containers/c/start', 200, { id })
  expect(await strata(service, ['start', 'a', 'b', 'c'])).toEqual({
    code: 1,
    signal: null,
    stdout: 'a\nc\n',
    stderr: 'strata: Error response: no such container: b\n',
  })
})

it('start -a shows the output, passes signals on, and ends as the container does', async () => {
  await using service = (await ServiceDouble.start()).json(START.replace(id, 'n'), 200, { id })
  const waited = Promise.withResolvers<ServerResponse>()
  service.on(LOGS, (_seen, response) => {
    response.write(frame(1, 'out\n'))
    void waited.promise.then((wait) => {
      response.end(frame(2, 'err\n'))
      sendJson(wait, 200, { exitCode: 7 })
    })
  })
  const asked = Promise.withResolvers<ServerResponse>()
  service.on(WAIT, (_seen, response) => asked.resolve(response))
  service.on(`POST /v1/containers/${id}/kill`, (seen, response) => {
    expect(JSON.parse(seen.body.toString())).toEqual({ signal: 'SIGTERM' })
    sendJson(response, 204)
    void asked.promise.then(waited.resolve)
  })
  const child = start(service, ['start', '--attach', 'n'])
  const ended = outcome(child)
  await asked.promise
  child.kill('SIGTERM')
  expect(await ended).toEqual({ code: 7, signal: null, stdout: 'out\n', stderr: 'err\n' })
  expect(service.seen[0]?.url).toMatch(/\/n\/start\?job=[0-9a-f-]{36}&attach=true$/)
})

it('start -a takes one container only, and ends with 1 where it cannot be started', async () => {
  await using service = await ServiceDouble.start()
  service.problem('POST /v1/containers/n/start', 422, 'command_not_found', 'no such program')
  expect(await strata(service, ['start', '-a', 'n'])).toMatchObject({
    code: 1,
    stderr: 'strata: Error response: no such program\n',
  })
  expect(await strata(service, ['start', '-a', 'n', 'm'])).toMatchObject({
    code: 1,
    stderr: 'strata: you cannot start and attach multiple containers at once\n',
  })
})
