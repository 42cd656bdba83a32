import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { JobView } from '@strata/api'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { layerOf, loadBusybox } from './testing/busybox-image.js'
import { leftOnNode, StrataUnderTest, until, type Output } from './testing/strata.js'

let strata: StrataUnderTest
beforeAll(async () => {
  strata = await StrataUnderTest.start()
  const over = await layerOf({
    'etc/passwd': { content: 'root:x:0:0:root:/root:/bin/sh\n' },
    'etc/plain': { content: 'x' },
  })
  await loadBusybox(strata, 't/box', [over], { Cmd: ['echo', 'by default'] })
})
afterAll(async () => {
  await strata.dispose()
})

const run = (...args: string[]): Promise<Output> => strata.cli(['run', '--rm', ...args])

describe('what strata run shows', () => {
  it('stdout and stderr apart, and the exit code', async () => {
    expect(await run('t/box', 'sh', '-c', 'echo out; echo err >&2; exit 7')).toEqual({
      code: 7,
      stdout: Buffer.from('out\n'),
      stderr: 'err\n',
    })
  })

  it.each([
    ['0', 0, 'exit 0'],
    ['255', 255, 'exit 255'],
    ['128 + the signal', 137, 'kill -9 $$'],
  ])('the exit code %s', async (_, code, script) => {
    // A container's first process is spared its own signals: a child's death is what a shell
    // reports.
    expect((await run('t/box', 'sh', '-c', `sh -c '${script}'; exit $?`)).code).toBe(code)
  })

  it.each([
    ['125 where Strata cannot', 125, ['--pull', 'never', 't/none'], 't/none'],
    ['125 for an option that is not there', 125, ['--privileged', 't/box'], '--privileged'],
    ['125 for a user that is not there', 125, ['-u', 'nobody-here', 't/box'], 'nobody-here'],
    ['126 for what is no program', 126, ['t/box', '/etc/plain'], '/etc/plain'],
    ['126 for a folder', 126, ['t/box', '/etc'], '/etc'],
    ['127 for what is not there', 127, ['t/box', 'no-such-program'], 'no-such-program'],
  ])('%s, with one sentence', async (_, code, args, words) => {
    const output = await run(...args)
    expect(output).toMatchObject({ code, stdout: Buffer.alloc(0) })
    expect(output.stderr).toContain(words)
    expect(output.stderr.trimEnd().split('\n')).toHaveLength(1)
  })

  it('-d prints the id, which finds the container', async () => {
    const { stdout } = await strata.cli(['run', '-d', 't/box', 'true'])
    const id = stdout.toString().trim()
    expect(id).toMatch(/^[0-9a-f]{64}$/)
    expect((await strata.cli(['wait', id.slice(0, 8)])).stdout.toString()).toBe('0\n')
    expect((await strata.cli(['rm', id.slice(0, 8)])).code).toBe(0)
  })
})

describe('what the CLI does to containers', () => {
  const start = async (...args: string[]): Promise<string> =>
    (await strata.cli(['run', '-d', ...args])).stdout.toString().trim()

  it('logs so far, the last of them, and those to come', async () => {
    const id = await start(
      't/box',
      'sh',
      '-c',
      'echo one; echo two; echo three; while [ ! -e /go ]; do usleep 10000; done; echo four',
    )
    await until(async () => (await strata.cli(['logs', id])).stdout.toString() === 'one\ntwo\nthree\n', 'three lines')
    expect((await strata.cli(['logs', '--tail', '1', id])).stdout.toString()).toBe('three\n')
    const following = strata.spawnCli(['logs', '-f', '--tail', '1', id])
    let followed = ''
    following.stdout?.on('data', (piece: Buffer) => (followed += piece.toString()))
    await until(() => followed === 'three\n', 'the last line so far')
    await writeFile(join(strata.node.folder, 'roots', id, 'go'), '')
    await new Promise((resolve) => following.once('close', resolve))
    expect(followed).toBe('three\nfour\n')
    await strata.cli(['rm', id])
  })

  it('the API’s logs: docker’s frames, or one stream bare', async () => {
    const id = await start('t/box', 'sh', '-c', 'echo out; echo err >&2')
    await strata.cli(['wait', id])
    const framed = (await strata.request('GET', `/v1/containers/${id}/logs`)).bytes
    const frames: Record<number, string> = {}
    for (let at = 0; at < framed.length; at += 8 + framed.readUInt32BE(at + 4)) {
      expect([...framed.subarray(at + 1, at + 4)]).toEqual([0, 0, 0])
      frames[framed[at]!] =
        (frames[framed[at]!] ?? '') + framed.toString('utf8', at + 8, at + 8 + framed.readUInt32BE(at + 4))
    }
    expect(frames).toEqual({ 1: 'out\n', 2: 'err\n' })
    expect((await strata.request('GET', `/v1/containers/${id}/logs?stream=stdout`)).bytes.toString()).toBe('out\n')
    expect((await strata.request('GET', `/v1/containers/${id}/logs?stream=stderr&tail=1`)).bytes.toString()).toBe(
      'err\n',
    )
    expect((await strata.request('GET', `/v1/containers/${id}/logs?stream=stdout&tail=0`)).bytes.toString()).toBe('')
    await strata.cli(['rm', id])
  })

  it('stop asks, then kills', async () => {
    const polite = await start('t/box', 'sh', '-c', 'trap "exit 3" TERM; echo ready; while :; do usleep 10000; done')
    const stubborn = await start('t/box', 'sh', '-c', 'trap "" TERM; echo ready; while :; do usleep 10000; done')
    for (const id of [polite, stubborn])
      await until(async () => (await strata.cli(['logs', id])).stdout.toString() === 'ready\n', 'the trap is set')
    expect(await strata.cli(['stop', polite])).toMatchObject({ code: 0, stdout: Buffer.from(`${polite}\n`) })
    expect((await strata.cli(['wait', polite])).stdout.toString()).toBe('3\n')
    await strata.cli(['stop', '-t', '0', stubborn])
    expect((await strata.cli(['wait', stubborn])).stdout.toString()).toBe('137\n')
    await strata.cli(['rm', polite, stubborn])
  })

  it('kill sends a signal; rm takes what ended, and what runs with -f', async () => {
    const id = await start(
      't/box',
      'sh',
      '-c',
      'trap "echo heard; exit 0" USR1; echo ready; while :; do usleep 10000; done',
    )
    await until(async () => (await strata.cli(['logs', id])).stdout.toString() === 'ready\n', 'the trap is set')
    expect((await strata.cli(['rm', id])).stderr).toContain('running')
    await strata.cli(['kill', '-s', 'usr1', id])
    expect((await strata.cli(['wait', id])).stdout.toString()).toBe('0\n')
    expect((await strata.cli(['kill', id])).code).toBe(1)
    expect((await strata.cli(['rm', id])).code).toBe(0)
    const running = await start('t/box', 'sleep', '1000')
    expect((await strata.cli(['rm', '-f', running])).code).toBe(0)
    expect((await strata.request('GET', `/v1/containers/${running}`)).status).toBe(404)
  })

  it('ps shows what runs, ps -a all, with the command, which Redis never had', async () => {
    const [ended, running] = [
      await start('--name', 'ended', 't/box', 'true'),
      await start('--name', 'going', 't/box', 'sleep', '1000'),
    ]
    await strata.cli(['wait', ended])
    expect((await strata.cli(['ps', '-q'])).stdout.toString()).toBe(`${running.slice(0, 12)}\n`)
    const all = (await strata.cli(['ps', '-a'])).stdout.toString()
    expect(all).toMatch(/going/)
    expect(all).toMatch(/ended/)
    expect(all).toContain('"sleep 1000"')
    expect(all).toContain('Exited (0)')
    await strata.cli(['rm', '-f', ended, running])
  })

  it('passes Ctrl-C on, and ends as the container does', async () => {
    const child = strata.spawnCli([
      'run',
      '--rm',
      't/box',
      'sh',
      '-c',
      'trap "echo interrupted; exit 9" INT; echo ready; while :; do usleep 10000; done',
    ])
    let text = ''
    child.stdout?.on('data', (piece: Buffer) => (text += piece.toString()))
    await until(() => text === 'ready\n', 'the trap is set')
    child.kill('SIGINT')
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(9)
    expect(text).toBe('ready\ninterrupted\n')
  })
})

describe('create, then start', () => {
  const RAN = ['sh', '-c', 'echo ran >> /ran; cat /ran; exit 3']
  const cli = async (...args: string[]): Promise<[code: number, stdout: string, stderr: string]> => {
    const { code, stdout, stderr } = await strata.cli(args)
    return [code, stdout.toString(), stderr]
  }
  const create = async (...args: string[]): Promise<string> => (await cli('create', ...args))[1].trim()
  const view = async (id: string): Promise<object> => (await strata.request('GET', `/v1/containers/${id}`)).json()

  it('what was created has its name, its image and no process; start runs it, and runs it again on the same root', async () => {
    const id = await create('--name', 'apart', 't/box', ...RAN)
    expect(id).toMatch(/^[0-9a-f]{64}$/)
    expect(await view('apart')).toMatchObject({ id, state: 'created', starts: 0, command: RAN })
    expect((await cli('ps', '-q'))[1]).toBe('')
    expect((await cli('ps', '-a'))[1]).toMatch(/ Created +apart$/m)
    expect(await cli('logs', 'apart')).toEqual([0, '', ''])
    expect(JSON.parse((await cli('inspect', 'apart'))[1])).toMatchObject([{ Id: id, State: { Status: 'created' } }])
    expect(leftOnNode(strata.node)).toEqual([join(strata.node.folder, 'containers', id)])
    for (const command of ['create', 'run'] as const) {
      const [code, , stderr] = await cli(command, '--name', 'apart', 't/box')
      expect([code, stderr]).toEqual([command === 'run' ? 125 : 1, expect.stringContaining('the name apart is used')])
    }
    expect((await cli('rmi', 't/box'))[2]).toContain('used by a container')
    expect((await cli('kill', 'apart'))[0]).toBe(1)
    expect(await cli('stop', 'apart')).toEqual([0, 'apart\n', ''])

    const end = cli('wait', 'apart')
    expect(await cli('start', 'apart')).toEqual([0, 'apart\n', ''])
    expect(await end).toEqual([0, '3\n', ''])
    expect(await cli('logs', id)).toEqual([0, 'ran\n', ''])
    expect(await cli('start', '-a', id)).toEqual([3, 'ran\nran\n', ''])
    expect((await cli('logs', id))[1]).toBe('ran\nran\nran\n')
    expect(await view(id)).toMatchObject({ state: 'exited', starts: 2, exitCode: 3 })
    expect(await cli('rm', 'apart')).toEqual([0, 'apart\n', ''])
  })

  it('one that goes at its end is started with its output seen; one that was not started goes without force', async () => {
    const id = await create('--rm', 't/box', 'sh', '-c', 'echo out; echo err >&2; exit 4')
    expect(await cli('start', '-a', id)).toEqual([4, 'out\n', 'err\n'])
    await until(async () => (await strata.containers()).length === 0, 'it is removed')
    const [first, second] = [await create('t/box', 'true'), await create('--rm', 't/box', 'true')]
    expect(await cli('rm', first)).toEqual([0, `${first}\n`, ''])
    const waiting = strata.request('POST', `/v1/containers/${second}/wait`)
    expect((await cli('rm', second))[0]).toBe(0)
    expect((await waiting).status).toBe(404)
    await expect.poll(() => leftOnNode(strata.node)).toEqual([])
  })

  it('says what cannot be created or started, in one sentence each', async () => {
    expect(await cli('create', 't/none')).toEqual([1, '', expect.stringContaining('t/none')])
    expect(await cli('create', '--privileged', 't/box')).toEqual([125, '', expect.stringContaining('--privileged')])
    const bad = await create('--name', 'bad', 't/box', 'no-such-program')
    expect(await cli('start', 'bad', 'no-such')).toEqual([
      1,
      '',
      expect.stringMatching(/no-such-program.*\n.*no-such\b.*\n$/),
    ])
    expect(await cli('start', '-a', 'bad')).toEqual([1, '', expect.stringContaining('no-such-program')])
    expect(await cli('start', '-a', 'bad', 'other')).toEqual([1, '', expect.stringContaining('multiple containers')])
    expect(await view(bad)).toMatchObject({ state: 'exited', exitCode: 127, starts: 2 })
    await cli('rm', 'bad')
  })

  it('starts that come at once start one process, beside a removal too; one that runs is left alone', async () => {
    const start = (id: string, query = '') => strata.request('POST', `/v1/containers/${id}/start${query}`)
    const id = await create('t/box', 'sh', '-c', 'echo ran; while :; do usleep 10000; done')
    const answers = await Promise.all([start(id), start(id), start(id, '?attach'), start(id)])
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200])
    for (const answer of answers) expect(answer.json()).toMatchObject({ id, state: 'running', starts: 1 })
    expect((await start(id, '?wait=false')).json()).toMatchObject({ id, state: 'running', starts: 1 })
    await cli('rm', '-f', id)

    // Whoever leaves has asked for it all the same.
    const left = await create('t/box', 'sleep', '1000')
    const gone = new AbortController()
    const leaving = strata.request('POST', `/v1/containers/${left}/start`, undefined, { signal: gone.signal })
    leaving.catch(() => undefined)
    gone.abort()
    const begun = await start(left, '?wait=false')
    expect([200, 202]).toContain(begun.status)
    await until(async () => 'pid' in (await view(left)), 'it runs')
    await cli('rm', '-f', left)

    for (const remove of ['rm', 'prune']) {
      const both = await create('t/box', 'sleep', '1000')
      const removal = remove === 'rm' ? cli('rm', both) : cli('system', 'prune', '-f')
      const [started, [code]] = await Promise.all([start(both), removal])
      const { status } = await strata.request('GET', `/v1/containers/${both}`)
      if (started.status === 200) expect(status).toBe(200)
      else expect([status, code]).toEqual([404, 0])
      await cli('rm', '-f', both)
      expect(await strata.containers()).toEqual([])
    }
    const pruned = await create('t/box', 'true')
    expect((await cli('system', 'prune', '-f'))[1]).toContain(pruned)
    await expect.poll(() => leftOnNode(strata.node)).toEqual([])
  })

  it('a stop ends a start that is under way, wherever that has come', async () => {
    const id = await create('t/box', 'sleep', '1000')
    for (let times = 0; times < 5; times++) {
      const job = randomUUID()
      const state = async (): Promise<string> => (await strata.request('GET', `/v1/jobs/${job}`)).json<JobView>().state
      expect((await strata.request('POST', `/v1/containers/${id}/start?wait=false&job=${job}`)).status).toBe(202)
      await until(async () => (await state()) !== 'waiting', 'the start is under way')
      expect((await strata.request('POST', `/v1/containers/${id}/stop`, { timeout: 0 })).status).toBe(204)
      await until(async () => /^(cancelled|completed)$/.test(await state()), 'the start has ended')
      expect(await view(id)).not.toMatchObject({ state: 'running' })
    }
    expect(await cli('rm', id)).toEqual([0, `${id}\n`, ''])
  })

  it('create and start are jobs: they can be named, followed and cancelled', async () => {
    const [creating, starting] = [randomUUID(), randomUUID()]
    const body = { image: 't/box', command: ['true'], name: 'job' }
    const created = await strata.request('POST', `/v1/containers?start=false&wait=false&job=${creating}`, body)
    expect([created.status, created.headers.location]).toEqual([202, `/v1/jobs/${creating}`])
    const job = async (id: string): Promise<JobView> => (await strata.request('GET', `/v1/jobs/${id}`)).json()
    await until(async () => (await job(creating)).state === 'completed', 'it is created')
    const { id } = created.json<{ id: string }>()
    expect(await job(creating)).toMatchObject({ kind: 'launch', container: id, result: { container: id } })
    const begun = await strata.request('POST', `/v1/containers/job/start?wait=false&job=${starting}`)
    expect([begun.status, begun.json(), begun.headers.location]).toEqual([202, { id }, `/v1/jobs/${starting}`])
    await until(async () => (await job(starting)).state === 'completed', 'it is started')
    expect(await job(starting)).toMatchObject({ kind: 'start', container: id, result: { container: id } })
    // One that still runs would be left alone, whatever the job's id.
    await strata.request('POST', '/v1/containers/job/wait')
    expect((await strata.request('POST', `/v1/containers/job/start?job=${starting}`)).status).toBe(409)
    await cli('rm', '-f', 'job')

    const taken = randomUUID()
    const answer = strata.request('POST', `/v1/containers?start=false&job=${taken}`, body)
    await until(async () => (await strata.request('DELETE', `/v1/jobs/${taken}`)).status !== 404, 'the job is there')
    // It may have been too late, which is no failure.
    if ((await answer).status === 201) await cli('rm', 'job')
    else expect((await answer).json()).toMatchObject({ code: 'cancelled' })
    await until(async () => (await strata.containers()).length === 0, 'nothing of it is left')
    expect((await strata.request('POST', '/v1/containers?start=false', body)).status).toBe(201)
    await cli('rm', 'job')
  })
})

describe('names', () => {
  it('are one container’s, until it is removed, also after a new start of the services', async () => {
    const first = (await strata.cli(['run', '-d', '--name', 'unique', 't/box', 'true'])).stdout.toString().trim()
    await strata.cli(['wait', 'unique'])
    const created = (await strata.cli(['create', 't/box', 'echo', 'late'])).stdout.toString().trim()
    const second = await strata.cli(['run', '--name', 'unique', 't/box', 'true'])
    expect(second).toMatchObject({ code: 125 })
    expect(second.stderr).toContain('unique')
    expect((await strata.request('POST', '/v1/containers', { image: 't/box', name: 'unique' })).status).toBe(409)
    await strata.stop('SIGKILL')
    await strata.startProcesses()
    expect((await strata.request('POST', '/v1/containers', { image: 't/box', name: 'unique' })).status).toBe(409)
    // What was created before waits still.
    expect((await strata.cli(['start', '-a', created])).stdout.toString()).toBe('late\n')
    await strata.cli(['rm', first, created])
    const third = await strata.request('POST', '/v1/containers', { image: 't/box', name: 'unique' })
    expect(third.status).toBe(201)
    await strata.cli(['rm', '-f', 'unique'])
  })

  it('are free as soon as run --rm has ended, and after a launch that failed', async () => {
    for (let times = 0; times < 3; times++) expect((await run('--name', 'again', 't/box', 'true')).code).toBe(0)
    for (let times = 0; times < 2; times++)
      expect((await run('--name', 'failing', '-u', 'nobody-here', 't/box')).code).toBe(125)
    expect((await run('--name', 'failing', 't/box', 'true')).code).toBe(0)
  })
})
