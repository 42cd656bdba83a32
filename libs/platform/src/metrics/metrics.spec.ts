import { describe, expect, it, vi } from 'vitest'
import { Metrics } from './metrics.js'
import { jobObserver, reportQueues, reportReadiness, storeObserver } from './observers.js'
import { SERIES } from './series.js'

/** The lines of a page that are values of one series. */
async function valuesOf(metrics: Metrics, name: string): Promise<string[]> {
  const { text } = await metrics.scrape()
  return text.split('\n').filter((line) => line.startsWith(name) && /^[{ ]/.test(line.slice(name.length)))
}

describe('the series', () => {
  it('have the names of the conventions', () => {
    for (const [name, { type }] of Object.entries(SERIES)) {
      expect(name).toMatch(/^strata_[a-z]+(_[a-z]+)*$/)
      expect(name.endsWith('_total')).toBe(type === 'counter')
      if (type === 'histogram') expect(name).toMatch(/_seconds$/)
    }
  })

  it('are those of the process and of each of its services, in one registry', async () => {
    const metrics = await Metrics.open()
    for (const service of ['ingest', 'gateway']) {
      const calls = storeObserver(metrics.of(service))
      calls('put', 'ok', 0.002)
      calls('put', 'store_unavailable', 1)
    }
    expect(await valuesOf(metrics, 'strata_store_calls_total')).toEqual([
      'strata_store_calls_total{service="ingest",operation="put",outcome="ok"} 1',
      'strata_store_calls_total{service="ingest",operation="put",outcome="store_unavailable"} 1',
      'strata_store_calls_total{service="gateway",operation="put",outcome="ok"} 1',
      'strata_store_calls_total{service="gateway",operation="put",outcome="store_unavailable"} 1',
    ])
    expect(await valuesOf(metrics, 'strata_store_call_duration_seconds_count')).toHaveLength(2)
    expect(await valuesOf(metrics, 'process_cpu_seconds_total')).toHaveLength(1)
    const other = await Metrics.open()
    expect(await valuesOf(other, 'strata_store_calls_total')).toEqual([])
  })

  it('of jobs tell how many run', async () => {
    const metrics = await Metrics.open()
    const jobs = jobObserver(metrics.of('ingest'))
    jobs.started('load')
    jobs.started('load')
    jobs.ended('load', 'suspended', 0.2)
    expect(await valuesOf(metrics, 'strata_jobs_started_total')).toEqual([
      'strata_jobs_started_total{service="ingest",job="load"} 2',
    ])
    expect(await valuesOf(metrics, 'strata_jobs_ended_total')).toEqual([
      'strata_jobs_ended_total{service="ingest",job="load",outcome="suspended"} 1',
    ])
  })
})

describe('a scrape', () => {
  const depth = { queue: 'ingest', jobs: { waiting: 2 }, oldestWaitingSeconds: 1.5 }

  it('leaves out what cannot be told, and says who does not serve', async () => {
    const metrics = await Metrics.open()
    let isAway = false
    const service = metrics.of('ingest')
    reportReadiness(service, () => Promise.resolve(isAway ? ['redis'] : []))
    reportQueues(service, () => (isAway ? Promise.reject(new Error('no')) : Promise.resolve([depth])))
    expect(await valuesOf(metrics, 'strata_queue_jobs')).toEqual([
      'strata_queue_jobs{service="ingest",queue="ingest",state="waiting"} 2',
    ])
    expect(await valuesOf(metrics, 'strata_up')).toEqual(['strata_up{service="ingest"} 1'])
    isAway = true
    expect(await valuesOf(metrics, 'strata_queue_jobs')).toEqual([])
    expect(await valuesOf(metrics, 'strata_queue_oldest_waiting_seconds')).toEqual([])
    expect(await valuesOf(metrics, 'strata_up')).toEqual(['strata_up{service="ingest"} 0'])
    expect(await valuesOf(metrics, 'strata_not_ready')).toContain('strata_not_ready{service="ingest",reason="redis"} 1')
    isAway = false
    expect(await valuesOf(metrics, 'strata_queue_oldest_waiting_seconds')).toEqual([
      'strata_queue_oldest_waiting_seconds{service="ingest",queue="ingest"} 1.5',
    ])
  })

  it('does not wait for what hangs, and asks it once', async () => {
    vi.useFakeTimers()
    try {
      const metrics = await Metrics.open()
      let asked = 0
      reportQueues(metrics.of('ingest'), () => {
        asked++
        return new Promise(() => undefined)
      })
      const both = Promise.all([metrics.scrape(), metrics.scrape()])
      await vi.advanceTimersByTimeAsync(3_000)
      const [one, other] = await both
      expect(one).toBe(other)
      expect(one.text).not.toContain('strata_queue_jobs{')
      expect(one.text).toContain('nodejs_version_info')
      expect(asked).toBe(1)
    } finally {
      vi.useRealTimers()
    }
  })
})
