import { SingleFlight } from '@strata/base'
import type { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { awaited } from '../service/process.js'
import { SERIES, type LabelsOf, type Series, type SeriesOf } from './series.js'

/** What a scrape is answered with. */
export interface MetricsPage {
  readonly contentType: string
  readonly text: string
}

/** A gauge of one service. A value that is not known any more is taken away. */
interface ServiceGauge<N extends keyof Series> {
  set(labels: LabelsOf<N>, value: number): void
  clear(): void
}

/**
 * What one service tells of itself: its share of the process's series. It is handed to the service
 * when it starts.
 *
 * ```ts
 * const calls = metrics.counter('strata_store_calls_total')
 * calls({ operation: 'put', outcome: 'ok' })
 * metrics.onScrape(() => open.set({ kind: 'push' }, this.#open))
 * ```
 */
export interface ServiceMetrics {
  /** Adds to a counter, 1 unless `by` is given. */
  counter<N extends SeriesOf<'counter'>>(name: N): (labels: LabelsOf<N>, by?: number) => void
  /** Takes a duration, in seconds. */
  histogram<N extends SeriesOf<'histogram'>>(name: N): (labels: LabelsOf<N>, seconds: number) => void
  gauge<N extends SeriesOf<'gauge'>>(name: N): ServiceGauge<N>
  /**
   * Has `read` set gauges when somebody asks for them. What takes longer than `SCRAPE_MS` is not
   * waited for: `read` clears what it cannot tell, before it asks.
   */
  onScrape(read: () => void | Promise<void>): void
  /** The page of the whole process, all its services. */
  scrape(): Promise<MetricsPage>
}

/** How long a scrape waits for what has to be asked for. Prometheus waits 10 s, unless told. */
const SCRAPE_MS = 3_000
/** How often the delay of the event loop is looked at. Node's own 10 ms wake an idle process. */
const EVENT_LOOP_MS = 50

/**
 * The series of a process, in a registry of its own. A process has one, whatever services run in
 * it: each gets its share by `of`, and every series says in `service` whose it is.
 *
 * Laws
 * - A scrape costs what the number of series costs, and one question for each queue. Scrapes at the
 *   same time share one answer.
 * - A scrape answers within SCRAPE_MS and does not fail. What could not be asked for in that time
 *   is absent.
 */
export class Metrics {
  readonly #readers: (() => void | Promise<void>)[] = []
  readonly #scrapes = new SingleFlight<MetricsPage>()

  private constructor(
    private readonly registry: Registry,
    private readonly counters: ReadonlyMap<string, Counter>,
    private readonly gauges: ReadonlyMap<string, Gauge>,
    private readonly histograms: ReadonlyMap<string, Histogram>,
  ) {}

  static async open(): Promise<Metrics> {
    const { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } = await import('prom-client')
    const registry = new Registry()
    const [counters, gauges, histograms] = [
      new Map<string, Counter>(),
      new Map<string, Gauge>(),
      new Map<string, Histogram>(),
    ]
    for (const [name, { type, help, labels, buckets }] of Object.entries<Series[keyof Series]>(SERIES)) {
      const labelNames = ['service', ...Object.keys(labels)]
      const options = { name, help, labelNames, registers: [registry] }
      if (type === 'counter') counters.set(name, new Counter(options))
      else if (type === 'gauge') gauges.set(name, new Gauge(options))
      else histograms.set(name, new Histogram({ ...options, buckets: [...(buckets ?? [])] }))
    }
    collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: EVENT_LOOP_MS })
    return new Metrics(registry, counters, gauges, histograms)
  }

  /** The share of a service. */
  of(service: string): ServiceMetrics {
    return {
      counter: (name) => {
        const series = this.counters.get(name)!
        return (labels, by) => series.inc({ service, ...labels }, by)
      },
      histogram: (name) => {
        const series = this.histograms.get(name)!
        return (labels, seconds) => series.observe({ service, ...labels }, seconds)
      },
      gauge: (name) => serviceGauge(this.gauges.get(name)!, service),
      onScrape: (read) => void this.#readers.push(read),
      scrape: () => this.scrape(),
    }
  }

  scrape(): Promise<MetricsPage> {
    return this.#scrapes.run(async () => {
      // What is absent says that it could not be read.
      await Promise.all(
        this.#readers.map((read) =>
          awaited(
            Promise.try(read).catch(() => undefined),
            SCRAPE_MS,
          ),
        ),
      )
      return { contentType: this.registry.contentType, text: await this.registry.metrics() }
    })
  }
}

function serviceGauge<N extends keyof Series>(series: Gauge, service: string): ServiceGauge<N> {
  const given = new Map<string, Record<string, string>>()
  return {
    set: (labels, value) => {
      const all = { service, ...labels }
      given.set(Object.values(all).join(' '), all)
      series.set(all, value)
    },
    clear: () => {
      for (const labels of given.values()) series.remove(labels)
      given.clear()
    },
  }
}
