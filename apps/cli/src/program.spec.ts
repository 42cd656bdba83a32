import { expect, it } from 'vitest'
import { unreachable } from './client.js'
import { readEndpoint } from './endpoint.js'
import { ServiceDouble } from './testing/service-double.js'
import { strata } from './testing/strata.js'

it.each([
  [['push', 'x'], "strata: 'push' is a docker command that Strata does not have (yet)"],
  [['foo'], "strata: 'foo' is not a strata command. See 'strata --help'"],
  [['run', '-p', '80:80', 'x'], "strata run: the flag -p is not supported. See 'strata run --help'"],
  [['run', '-dit', 'x'], "strata run: the flag -i is not supported. See 'strata run --help'"],
  [['ps', '--filter=a=b'], "strata ps: the flag --filter is not supported. See 'strata ps --help'"],
  [['-H', 'x', 'ps'], "strata: the flag -H is not supported. See 'strata --help'"],
])('%j ends with 125 and the name', async (args, sentence) => {
  expect(await strata(undefined, args)).toEqual({ code: 125, signal: null, stdout: '', stderr: `${sentence}\n` })
})

it('prints help and versions without a service', async () => {
  expect((await strata(undefined, [])).stdout).toContain('Usage: strata')
  expect(await strata(undefined, ['--version'])).toMatchObject({ code: 0, stdout: 'Strata version 0.1.0\n' })
  expect(await strata(undefined, ['rmi'])).toMatchObject({ code: 1 })
})

it('says that nothing answers: 1, and 125 for run', async () => {
  const environment = { STRATA_HOST: 'unix:///nonexistent/strata.sock' }
  const stderr = 'strata: Cannot connect to Strata at unix:///nonexistent/strata.sock. Is it running?\n'
  expect(await strata(undefined, ['ps'], { environment })).toMatchObject({ code: 1, stderr })
  expect(await strata(undefined, ['run', 'x'], { environment })).toMatchObject({ code: 125, stderr })
})

it('advises to start one only where `strata up` would listen', () => {
  const refused = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })
  const said = (environment: NodeJS.ProcessEnv) => unreachable(readEndpoint(environment), refused).message
  expect(said({})).toBe('Cannot connect to Strata at unix:///run/strata/strata.sock. Is it running? (strata up)')
  expect(said({ STRATA_HOST: 'http://127.0.0.1:4700' })).toBe(
    'Cannot connect to Strata at http://127.0.0.1:4700. Is it running?',
  )
})

it('is clear about a service that is broken', async () => {
  await using service = await ServiceDouble.start()
  service.on('GET /v1/images', (_seen, response) => response.writeHead(502).end('<html>'))
  service.on('GET /v1/containers', (_seen, response) => response.end('not json'))
  service.on('GET /v1/jobs', (_seen, response) => response.destroy())
  expect((await strata(service, ['images'])).stderr).toContain('answered 502 Bad Gateway')
  expect((await strata(service, ['ps'])).stderr).toContain('did not answer in JSON')
  expect((await strata(service, ['jobs'])).stderr).toContain('broke before its answer was whole')
})

it('waits for several at once and prints their codes in order', async () => {
  await using service = await ServiceDouble.start()
  service.json('POST /v1/containers/b/wait', 200, { exitCode: 3 })
  service.on(
    'POST /v1/containers/a/wait',
    (_seen, response) =>
      void service.asked('POST', '/v1/containers/b/wait').then(() => response.end('{"exitCode":137}')),
  )
  expect(await strata(service, ['wait', 'a', 'b'])).toMatchObject({ code: 0, stdout: '137\n3\n' })
})

it('sends the token over TCP', async () => {
  await using service = await ServiceDouble.start()
  service.json('GET /v1/version', 200, { version: '9', api: '1', node: '24' })
  const { createServer, connect } = await import('node:net')
  const door = createServer((socket) => {
    const inner = connect(service.socket)
    socket.pipe(inner).pipe(socket)
    socket.on('error', () => inner.destroy())
    inner.on('error', () => socket.destroy())
  })
  await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve))
  const address = door.address()
  const port = typeof address === 'object' ? address?.port : undefined
  const result = await strata(undefined, ['version'], {
    environment: { STRATA_HOST: `http://127.0.0.1:${port ?? 0}`, STRATA_TOKEN: 'secret' },
  })
  door.close()
  expect(result.stdout).toContain('Server:\n Version:  9')
  expect(service.seen[0]?.headers.authorization).toBe('Bearer secret')
})
