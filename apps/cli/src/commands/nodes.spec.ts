import { expect, it } from 'vitest'
import { ServiceDouble } from '../testing/service-double.js'
import { strata } from '../testing/strata.js'

const here = {
  id: 'a',
  state: 'ready',
  host: 'first',
  driver: 'erofs',
  runtime: 'runc version 1.3.6',
  kernel: '6.1',
  containers: 3,
}
const gone = { id: 'b', state: 'gone', host: 'second', since: '2020-01-01T00:00:00.000Z', containers: 0 }

it('lists nodes as docker does, also those that are gone', async () => {
  await using double = (await ServiceDouble.start()).json('GET /v1/nodes', 200, { nodes: [here, gone] })
  const { code, stdout } = await strata(double, ['node', 'ls'])
  expect(code).toBe(0)
  expect(stdout).toMatch(
    /^ID +HOSTNAME +STATUS +DRIVER +RUNTIME +CONTAINERS\na +first +Ready +erofs +runc version 1\.3\.6 +3\nb +second +Gone \(last seen \d+ years ago\) +0\n$/,
  )
  expect((await strata(double, ['node', 'ls', '-q'])).stdout).toBe('a\nb\n')
  expect((await strata(double, ['node', 'ls', '--format', '{{.ID}} {{.Hostname}} {{.Driver}}'])).stdout).toBe(
    'a first erofs\nb second \n',
  )
})

it('removes each node that it can, says why not of the others, and ends with 1', async () => {
  await using double = (await ServiceDouble.start())
    .json('DELETE /v1/nodes/b', 204)
    .problem('DELETE /v1/nodes/a', 409, 'node_in_use', 'the node a is running')
  const outcome = await strata(double, ['node', 'rm', 'a', 'b'])
  expect(outcome).toMatchObject({ code: 1, stdout: 'b\n', stderr: 'strata: Error response: the node a is running\n' })
  expect((await double.asked('DELETE', '/v1/nodes/b')).url).toBe('/v1/nodes/b?force=false')
  await strata(double, ['node', 'rm', '--force', 'b'])
  expect(double.seen.at(-1)?.url).toBe('/v1/nodes/b?force=true')
})

it('knows no other command of that name', async () => {
  await using double = await ServiceDouble.start()
  expect(await strata(double, ['node', 'promote', 'a'])).toMatchObject({
    code: 125,
    stderr: "strata: 'node promote' is not a strata command. See 'strata node --help'\n",
  })
})
