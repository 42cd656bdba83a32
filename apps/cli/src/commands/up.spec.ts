import { execFile, spawn } from 'node:child_process'
import { cp, mkdtemp, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'

/**
 * A service that does what `up` and `down` count on, and nothing else. FAIL: it ends at once, with
 * a reason.
 */
const SERVICE = `
import { createServer } from 'node:http'
import { rmSync, writeFileSync } from 'node:fs'
const { STRATA_SOCKET: socket, STRATA_DATA, STRATA_LISTEN, FAIL } = process.env
if (FAIL) { console.error(JSON.stringify({ level: 'info', msg: 'hello' })); console.error('strata: ' + FAIL); console.error('Node.js v24'); process.exit(3) }
let asked = 0
createServer((request, response) => response.writeHead(++asked > 3 ? 200 : 503).end()).listen(socket, () => {
  writeFileSync(socket + '.pid', process.pid + '\\n')
  console.log(JSON.stringify({ data: STRATA_DATA, listen: STRATA_LISTEN }))
})
process.on('SIGTERM', () => { rmSync(socket); rmSync(socket + '.pid'); process.exit(5) })
`
let root: string
let bin: string
let socket: string
let data: string

beforeAll(async () => {
  // A checkout in small, so that the stand-in lies where the real service would.
  root = await mkdtemp(join(tmpdir(), 'strata-up-'))
  const from = fileURLToPath(new URL('../..', import.meta.url))
  const app = join(root, 'apps/cli')
  for (const part of ['bin', 'package.json']) await cp(join(from, part), join(app, part), { recursive: true })
  for (const part of ['dist', 'package.json'])
    await cp(join(from, '../..', part), join(root, part), { recursive: true })
  await symlink(join(from, '../../node_modules'), join(root, 'node_modules'))
  await writeFile(join(root, 'dist/standalone.js'), SERVICE)
  bin = join(app, 'bin/strata.mjs')
  socket = join(root, 's.sock')
  data = join(root, 'data')
})
afterAll(async () => {
  await strata(['down', '--socket', socket])
  await rm(root, { recursive: true })
})

function strata(
  args: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    // The runner sets FORCE_COLOR; beside a NO_COLOR of whoever runs the tests Node.js would speak
    // of it.
    const child = execFile(
      bin,
      args,
      { env: { ...process.env, FORCE_COLOR: undefined, STRATA_HOST: undefined, ...environment } },
      (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    )
  })
}

it('starts in the background, refuses a second start, and stops', async () => {
  const up = await strata(['up', '-d', '--data', data, '--socket', socket])
  expect(up).toMatchObject({ code: 0, stderr: '' })
  expect(up.stdout).toContain(`Strata is running at unix://${socket} (pid `)
  expect(up.stdout).toContain(`STRATA_HOST=unix://${socket}`)
  expect(await readFile(join(data, 'strata.log'), 'utf8')).toBe(`${JSON.stringify({ data, listen: '' })}\n`)
  const again = await strata(['up', '-d', '--data', data, '--socket', socket])
  expect(again.code).toBe(1)
  expect(again.stderr).toMatch(/^strata: Strata is already running at unix:.*\(pid \d+\)\n$/)
  expect(await strata(['down', '--socket', socket])).toMatchObject({
    code: 0,
    stdout: 'Strata is stopped; containers run on\n',
  })
  expect(await strata(['down', '--socket', socket])).toMatchObject({
    code: 0,
    stdout: `Strata is not running at unix://${socket}\n`,
  })
})

it('both follow their environment: up its variables, down the host of all commands', async () => {
  const own = join(root, 'own.sock')
  const variables = { STRATA_DATA: data, STRATA_SOCKET: own, STRATA_LISTEN: '127.0.0.1:2' }
  const up = await strata(['up', '-d'], variables)
  expect(up.stdout).toContain(`Strata is running at unix://${own} (pid `)
  const log = await readFile(join(data, 'strata.log'), 'utf8')
  expect(log.trimEnd().split('\n').at(-1)).toBe(JSON.stringify({ data, listen: '127.0.0.1:2' }))
  for (const other of ['http://127.0.0.1:2', 'unix://relative'])
    expect(await strata(['down'], { STRATA_HOST: other })).toMatchObject({ code: 1, stdout: '' })
  expect(await strata(['down', '--socket', socket], { STRATA_HOST: `unix://${own}` })).toMatchObject({
    stdout: `Strata is not running at unix://${socket}\n`,
  })
  const down = await strata(['down'], { STRATA_HOST: `unix://${own}`, STRATA_SOCKET: socket })
  expect(down).toMatchObject({ code: 0, stdout: 'Strata is stopped; containers run on\n' })
  expect((await strata(['up', '-d'], variables)).code).toBe(0)
  expect(await strata(['down'], variables)).toMatchObject({ stdout: 'Strata is stopped; containers run on\n' })
})

it('a path that is not UTF-8 is refused: Node.js reads it as another', async () => {
  // By a shell: no argument of Node's has such bytes.
  const shell = (line: string): Promise<{ code: number; stderr: string }> =>
    new Promise((resolve) => {
      const child = execFile(
        'bash',
        ['-c', line],
        { cwd: root, env: { ...process.env, BIN: bin } },
        (_error, _, stderr) => resolve({ code: child.exitCode ?? -1, stderr }),
      )
    })
  const before = await readdir(root)
  for (const line of [
    `"$BIN" up -d --data $'odd\\xff' --socket ${socket}`,
    `"$BIN" up -d --data ${data} --socket=$'odd\\xff'`,
    `STRATA_DATA=${root}/$'odd\\xff' "$BIN" up -d --socket ${socket}`,
    `STRATA_HOST=unix://${root}/$'odd\\xff' "$BIN" down`,
    `STRATA_HOST=unix://${socket} "$BIN" save -o $'odd\\xff' x`,
  ]) {
    const { code, stderr } = await shell(line)
    expect({ line, code, stderr }).toEqual({
      line,
      code: 1,
      stderr: expect.stringMatching(/^strata: the path ".*odd\ufffd" is not UTF-8: choose another name\n$/) as string,
    })
  }
  expect(await readdir(root)).toEqual(before)
})

it('puts aside a log that is large, in the place of the one before', async () => {
  const log = join(data, 'strata.log')
  await writeFile(`${log}.1`, 'the oldest')
  await writeFile(log, 'the old')
  await truncate(log, 64 * 1024 * 1024 + 1)
  const result = await strata(['up', '-d', '--data', data, '--socket', socket], { FAIL: 'no' })
  expect(result.stderr).toBe('strata: Strata did not start: no\n')
  expect((await readFile(log, 'utf8')).length).toBeLessThan(1_000)
  expect((await readFile(`${log}.1`)).subarray(0, 7).toString()).toBe('the old')
})

it('says why it did not start', async () => {
  const result = await strata(['up', '-d', '--data', data, '--socket', socket], {
    FAIL: 'runc is missing: apt install runc',
  })
  expect(result).toMatchObject({
    code: 1,
    stdout: '',
    stderr: 'strata: Strata did not start: runc is missing: apt install runc\n',
  })
})

it('says all of it, where that is a list', async () => {
  const why = 'the configuration is not valid:\n  STRATA_A: is missing\n  STRATA_B: is no number'
  const result = await strata(['up', '-d', '--data', data, '--socket', socket], { FAIL: why })
  expect(result).toMatchObject({ code: 1, stdout: '', stderr: `strata: Strata did not start: ${why}\n` })
})

it('is the service itself in the foreground: its output, signals and exit code', async () => {
  const child = spawn(bin, ['up', '--data', data, '--socket', socket, '--listen', '127.0.0.1:1'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
  const line = await new Promise<Buffer>((resolve) => child.stdout.once('data', resolve))
  expect(JSON.parse(line.toString())).toEqual({ data, listen: '127.0.0.1:1' })
  child.kill('SIGTERM')
  expect(await ended).toBe(5)
})

it('never signals a process that only has the number of an old service', async () => {
  const bystander = spawn('sleep', ['1000'])
  await writeFile(`${socket}.pid`, `${bystander.pid ?? 0}\n`)
  expect(await strata(['down', '--socket', socket])).toMatchObject({ code: 0 })
  expect(bystander.signalCode).toBeNull()
  expect(() => process.kill(bystander.pid ?? 0, 0)).not.toThrow()
  bystander.kill()
  await rm(`${socket}.pid`)
})
