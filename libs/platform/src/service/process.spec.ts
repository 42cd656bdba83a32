import { spawnSync } from 'node:child_process'
import { expect, it } from 'vitest'

const PROCESS = new URL('../../dist/service/process.js', import.meta.url).href
const BASE = new URL('../../../base/dist/index.js', import.meta.url).href

it('has the umask of dockerd, whatever it was started with', () => {
  const program = `
    process.umask(0o077)
    const { runProcess } = await import(${JSON.stringify(PROCESS)})
    await runProcess(async () => console.log(String(process.umask())))`
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })
  expect(stdout).toBe('18\n') // 022
})

it('faults that nobody waits for end the process with the sentence of the first, however many come at once', () => {
  const program = `
    import { runProcess } from ${JSON.stringify(PROCESS)}
    import { StrataError } from ${JSON.stringify(BASE)}
    await runProcess(() => {
      for (const what of ['first', 'second'])
        setImmediate(() => { throw new StrataError('data_newer', what) })
      return new Promise((resolve) => setTimeout(resolve, 60_000))
    })`
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })
  expect({ status, stderr }).toEqual({ status: 1, stderr: 'strata: first\n' })
})
