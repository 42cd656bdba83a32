import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { JobView } from '@strata/api'
import { urlOf, type Client } from './client.js'
import { CliError } from './errors.js'
import { serverEvents } from './events.js'
import { exitCodeOf, onSignals } from './signals.js'

/**
 * Has a request made by `ask`, as the job that it is given. A signal cancels the job and ends the
 * command: then `signal` aborts. `what`: what is cancelled, for the user.
 */
export async function cancellable<T>(
  client: Client,
  what: string,
  ask: (job: string, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const job = randomUUID()
  const ended = new AbortController()
  const cancelled = Promise.withResolvers<never>()
  const release = onSignals(['SIGINT', 'SIGTERM', 'SIGHUP'], (signal) => {
    // The job is told first: a connection that merely breaks could be a client about to come back.
    // A second signal does not wait.
    release()
    const leave = (): void => cancelled.reject(new CliError(`${what} was cancelled`, { exitCode: exitCodeOf(signal) }))
    client.call('cancelJob', { params: { id: job } }, ended.signal).then(leave, leave)
  })
  try {
    return await Promise.race([ask(job, ended.signal), cancelled.promise])
  } finally {
    release()
    ended.abort()
  }
}

const NOT_YET_MS = 50

/**
 * Tells how a job goes until it ends or `signal` aborts. Only to show something: whatever fails
 * here, the request's own answer says how the job ended. What the service says is not checked.
 */
export async function followJob(
  client: Client,
  job: string,
  show: (view: Partial<JobView>) => void,
  signal: AbortSignal,
): Promise<void> {
  try {
    const body = await eventsOf(client, job, signal)
    for await (const { event, data } of serverEvents(body)) {
      if (signal.aborted || event === 'end') return
      show(JSON.parse(data) as Partial<JobView>)
    }
  } catch {
    return
  }
}

/** A job is there a moment after its request began. */
async function eventsOf(client: Client, job: string, signal: AbortSignal): Promise<AsyncIterable<Buffer>> {
  for (;;) {
    try {
      return await client.stream(urlOf('followJob', { params: { id: job } }), signal)
    } catch (error) {
      if (!(error instanceof CliError) || error.code !== 'job_not_found') throw error
      await sleep(NOT_YET_MS, undefined, { signal })
    }
  }
}
