import { execFile } from 'node:child_process'
import { readFileSync, readlinkSync } from 'node:fs'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

/** As built: a process of its own reads no TypeScript. */
const WORLD = new URL('../../dist/testing/world.js', import.meta.url).pathname
const SCRIPT = `
const { World } = await import(${JSON.stringify(WORLD)})
const world = await World.make({ warn: () => undefined })
const answer = await world.run(['sh', '-c', 'readlink /proc/self/ns/net; cat /etc/hosts'], { network: 'host' })
  .catch((error) => ({ code: error.code, message: error.message }))
console.log(JSON.stringify([answer, await world.end()]))
`

/**
 * A node in a network namespace of its own, on a machine whose first process has this test's: what
 * an engine makes of a service. `under` runs the node.
 */
async function runOnHost(under: readonly string[]): Promise<[unknown, string[]]> {
  const machine = ['--fork', '--pid', '--mount-proc', '--kill-child', 'sh', '-c', '"$@"; exit $?', 'sh']
  const node = ['unshare', '--net', ...under, process.execPath, '--input-type=module', '--eval', SCRIPT]
  const { stdout } = await promisify(execFile)('unshare', [...machine, ...node])
  return JSON.parse(stdout) as [unknown, string[]]
}

/** An engine mounts files over the `/etc` of its containers, right in its networks only. */
const OTHER_ETC = ['unshare', '--mount', 'sh', '-c', 'mount --bind /etc/passwd /etc/hosts && exec "$@"', 'sh']

it('a container with the host’s network has that of process 1 with its /etc, not that of the service', async () => {
  const ours = readlinkSync('/proc/self/ns/net')
  const [answer, left] = await runOnHost(OTHER_ETC)
  expect(answer).toEqual({ code: 0, stdout: `${ours}\n${readFileSync('/etc/hosts', 'latin1')}`, stderr: '' })
  expect(left).toEqual([])
})

it('and is refused, with what to do, where the service may not enter it', async () => {
  const [answer, left] = await runOnHost(['setpriv', '--bounding-set=-sys_ptrace', '--inh-caps=-all'])
  expect(answer).toMatchObject({ code: 'launch_failed', message: expect.stringContaining('CAP_SYS_PTRACE') as string })
  expect(left).toEqual([])
})
