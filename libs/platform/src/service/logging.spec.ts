import { spawnSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { readable } from './logging.js'

const here = (name: string): string => JSON.stringify(new URL(`../../dist/${name}`, import.meta.url).href)
const BASE = JSON.stringify(new URL('../../../base/dist/index.js', import.meta.url).href)

/** What a process of its own logs: the logger is one of a process. */
function logged(program: string, level = 'info'): Record<string, unknown>[] {
  const { stderr, stdout, status } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
    env: { ...process.env, STRATA_LOG_LEVEL: level, NODE_OPTIONS: '' },
  })
  expect({ stdout, status }, stderr).toEqual({ stdout: '', status: 0 })
  return stderr
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

describe('a log', () => {
  const line = {
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string,
    pid: expect.any(Number) as number,
  }

  it('is lines of JSON from the start of a process: time, level, job, and what it is about', () => {
    const program = `
      import { Logger } from '@nestjs/common'
      import { inLogContext } from ${BASE}
      const { runProcess } = await import(${here('service/process.js')})
      await runProcess(async () => {
        new Logger('data').warn('before any application')
        inLogContext({ job: 'j1' }, () => {
          new Logger('ingest').log({ image: 'i' }, 'loaded x:1')
          new Logger('ingest').log('of the same job')
        })
        new Logger('RouterExplorer').log('Mapped {/x, GET} route')
      })`
    expect(logged(program)).toEqual([
      { ...line, level: 'warn', context: 'data', msg: 'before any application' },
      { ...line, level: 'info', job: 'j1', context: 'ingest', image: 'i', msg: 'loaded x:1' },
      { ...line, level: 'info', job: 'j1', context: 'ingest', msg: 'of the same job' },
    ])
    expect(logged(program, 'error')).toEqual([])
    expect(logged(program, 'nonsense')).toHaveLength(3)
  })

  /** An application with a GET /x, which is asked once; its lines of that request. */
  const linesOfRequest = (get: string): Record<string, unknown>[] => {
    const lines = linesOf(get, "new Logger('answer').log((await fetch(url)).headers.get('x-request-id'))")
    const request = lines.find(({ context }) => context === 'answer')?.['msg']
    expect(request).toMatch(/^[0-9a-f-]{36}$/)
    const own = lines.filter((one) => one['request'] === request)
    expect(lines).toHaveLength(own.length + 1)
    return own
  }
  /** `get` has `req` and `res` if it uses them; `ask` is what its client does. */
  const linesOf = (get: string, ask: string): Record<string, unknown>[] => {
    const program = `
      import { once } from 'node:events'
      import { Controller, Get, Logger, Module, Req, Res } from '@nestjs/common'
      import { StrataError } from ${BASE}
      const { createHttpApp } = await import(${here('http/http-app.js')})
      const { loggingModule } = await import(${here('service/logging.js')})
      const { runProcess } = await import(${here('service/process.js')})
      const { allowEveryone } = await import(${here('http/authentication.js')})
      const { openListener, closeListener } = await import(${here('listener/open-listener.js')})
      const { answerEarly } = await import(${here('http/early-answer.js')})
      class C { async get(req, res) { ${get} } }
      ${get.includes('res.') ? "Req()(C.prototype, 'get', 0); Res()(C.prototype, 'get', 1)" : ''}
      Get('/x')(C.prototype, 'get', Object.getOwnPropertyDescriptor(C.prototype, 'get'))
      Controller()(C)
      class M {}
      Module({})(M)
      await runProcess(async () => {
        const { app, handler } = await createHttpApp(
          { module: M, imports: [loggingModule('debug')], controllers: [C] },
          { authentication: { unix: allowEveryone, tcp: allowEveryone, refusal: '' }, bodies: { bytes: 1, memory: 1, timeoutMs: 1000 } },
        )
        const server = await openListener({ kind: 'tcp', host: '127.0.0.1', port: 0 }, handler, { connections: 9, headersMs: 9000, unreadMs: 9000 })
        const url = 'http://127.0.0.1:' + server.address().port + '/x?secret=1'
        ${ask}
        await closeListener(server, 100)
        await app.close()
      })`
    return logged(program, 'debug')
  }

  it('of a request has its id, which its answer has too; an application says nothing of its routes', () => {
    expect(linesOfRequest("new Logger('images').log('in a request'); return {}")).toMatchObject([
      { level: 'info', context: 'images', msg: 'in a request' },
      { level: 'debug', context: 'http', method: 'GET', path: '/x', status: 200, msg: 'answered' },
    ])
  })

  it('of a request that fails for a known reason is one line without a stack', () => {
    const away = `throw new StrataError('queue_unavailable', 'Redis does not answer', { cause: new Error('timed out') })`
    const failure = { code: 'queue_unavailable', error: 'Redis does not answer', cause: 'timed out' }
    const [said, ...more] = linesOfRequest(away)
    expect(said).toMatchObject({
      level: 'error',
      context: 'http',
      path: '/x',
      status: 503,
      ...failure,
      msg: 'answered',
    })
    expect(more).toEqual([])
    expect(JSON.stringify(said)).not.toContain('    at ')
  })

  it('of a request whose client has left has the reason, too: also of one that is answered early', () => {
    const away = "new StrataError('store_unavailable', 'the store does not answer', { cause: new Error('timed out') })"
    const ask = `
      globalThis.asked = Promise.withResolvers()
      const leaving = new AbortController()
      fetch(url, { signal: leaving.signal }).catch(() => undefined)
      const reply = await asked.promise
      const closed = once(reply, 'close')
      leaving.abort()
      await closed`
    const wait = "asked.resolve(res.raw); await once(res.raw, 'close');"
    const early = `res.hijack(); await answerEarly(req.raw, res.raw, ${away})`
    for (const get of [`${wait} throw ${away}`, `${wait} ${early}`]) {
      const lines = linesOf(get, ask)
      expect(lines).toMatchObject([
        { level: 'debug', context: 'http', path: '/x', msg: 'not answered to the end' },
        {
          level: 'error',
          context: 'http',
          code: 'store_unavailable',
          error: 'the store does not answer',
          cause: 'timed out',
          msg: 'failed behind its client',
        },
      ])
      expect(lines[0]?.['request']).toBe(lines[1]?.['request'])
    }
    // The reason of an early answer is in the line of its request.
    expect(linesOfRequest(early)).toMatchObject([
      { level: 'error', context: 'http', path: '/x', status: 503, code: 'store_unavailable', msg: 'answered' },
    ])
  })

  it('of a request that fails for an unknown reason has the stack', () => {
    expect(linesOfRequest("throw new TypeError('odd')")).toMatchObject([
      { level: 'error', context: 'http', err: { stack: expect.stringContaining('    at ') as string }, msg: 'odd' },
      { level: 'error', context: 'http', path: '/x', status: 500, msg: 'answered' },
    ])
  })

  it('is readable on a terminal, which obeys nothing of it', () => {
    const event = {
      level: 'info',
      time: '2026-11-29T00:42:19.123Z',
      pid: 1,
      context: 'ingest',
      job: 'j',
      image: 'a\x1b[31m',
      msg: 'loaded x\n',
    }
    expect(readable(JSON.stringify(event))).toBe(
      '2026-11-29T00:42:19.123Z info  ingest: loaded x\\u000a  job=j  image=a\\u001b[31m\n',
    )
    expect(
      readable(JSON.stringify({ level: 'error', time: 't', err: { message: 'no', stack: 'Error: no\n    at x' } })),
    ).toBe('t error no\nError: no\n    at x\n')
  })
})
