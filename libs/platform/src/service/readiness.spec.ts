import { request } from 'node:http'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openHealth } from '../listener/health-listener.js'
import { Metrics } from '../metrics/metrics.js'
import { LIMITS } from '../testing/limits.js'
import { NOT_READY, Readiness, storeAnswers, type NotReady } from './readiness.js'

describe('readiness', () => {
  it('names what is away, throws, or says no', async () => {
    const readiness = new Readiness({
      redis: () => Promise.reject(new Error('no')),
      store: () => Promise.resolve(true),
      node: () => Promise.resolve(false),
    })
    expect(await readiness.notReady()).toEqual(['redis', 'node'])
  })

  it('takes what does not answer for away', async () => {
    expect(await new Readiness({ store: () => new Promise(() => undefined) }).notReady()).toEqual(['store'])
  })

  it('asks once for all who ask at the same time, and again for those who come later', async () => {
    let asked = 0
    const readiness = new Readiness({ redis: () => Promise.resolve(++asked > 0) })
    await Promise.all([readiness.notReady(), readiness.notReady(), readiness.notReady()])
    expect(asked).toBe(1)
    await readiness.notReady()
    expect(asked).toBe(2)
  })

  it('looks at one object of the store', async () => {
    const seen: string[] = []
    await storeAnswers({ stat: (key) => Promise.resolve(seen.push(key)) })
    expect(seen).toEqual(['health/probe'])
  })
})

describe('the health listener', () => {
  const ask = (socketPath: string, path: string): Promise<{ status: number | undefined; text: string }> =>
    new Promise((resolve, reject) => {
      request({ socketPath, path }, (answer) => {
        let text = ''
        answer
          .on('data', (piece: Buffer) => (text += piece.toString()))
          .on('end', () => resolve({ status: answer.statusCode, text }))
      })
        .once('error', reject)
        .end()
    })

  it('tells whether the process lives, and why it does not serve', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'strata-health-'))
    let reasons: readonly NotReady[] = ['starting']
    const metrics = await Metrics.open()
    const health = await openHealth(
      join(folder, 's'),
      () => Promise.resolve(reasons),
      () => metrics.scrape(),
      LIMITS,
    )
    expect(await ask(join(folder, 's'), '/health/live')).toEqual({ status: 200, text: '{"status":"live"}' })
    expect(await ask(join(folder, 's'), '/health/ready')).toEqual({
      status: 503,
      text: JSON.stringify({ status: 'not ready', reasons: [NOT_READY.starting] }),
    })
    reasons = []
    expect(await ask(join(folder, 's'), '/health/ready')).toEqual({ status: 200, text: '{"status":"ready"}' })
    expect((await ask(join(folder, 's'), '/v1/info')).status).toBe(404)
    expect(await ask(join(folder, 's'), '/metrics')).toMatchObject({
      status: 200,
      text: expect.stringContaining('process_cpu_seconds_total') as string,
    })
    await health.close()
    rmSync(folder, { recursive: true })
  })
})
