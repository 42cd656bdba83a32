import { StrataError } from '@strata/base'
import type { Journal, JournalRecord, NewJob, Producer } from '@strata/queue'
import { beforeEach, expect, it } from 'vitest'
import type { Cancellation } from './cancellation.js'
import { Requests } from './requests.js'

const HERE = new AbortController().signal
const NODE = { node: 'n1', id: `sha256:${'a'.repeat(64)}` }

/** What was done to records and queues, in order. */
let done: string[]
/** What the queue answers to a job. */
let add: () => Promise<void>
/** How the request ends. */
let end: (signal: AbortSignal) => Promise<Pick<JournalRecord, 'result' | 'error'>>
let requests: Requests
beforeEach(() => {
  done = []
  add = () => Promise.resolve()
  end = () => Promise.resolve({ result: NODE })
  const note = (what: string) => {
    done.push(what)
    return Promise.resolve()
  }
  const journal = {
    create: (_id: string, kind: string) => note(`create ${kind}`),
    stopWork: () => note('stop'),
    fail: (_id: string, error: StrataError) => note(`fail ${error.code}`),
    end: (_id: string, signal: AbortSignal) => end(signal),
  }
  const producer = {
    add: async (job: { name: string }) => {
      await note(`add ${job.name}`)
      await add()
    },
    result: async (_job: unknown, signal: AbortSignal) => {
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
      throw signal.reason as Error
    },
    withdraw: () => note('withdraw'),
  }
  requests = new Requests(
    journal as unknown as Journal,
    producer as unknown as Producer,
    { cancel: () => note('cancel') } as unknown as Cancellation,
  )
})

const place = (id: string): NewJob<'place'> => ({
  name: 'place',
  queue: 'runtime',
  id,
  data: { root: id, purpose: 'assemble', image: { id: NODE.id as never, digest: NODE.id as never, layers: [] } },
})
const mount = (signal = HERE) => requests.run('prepare', place, 'assemble', signal)

it('the record is made, then the job, and the result is the job’s', async () => {
  expect(await mount()).toEqual(NODE)
  expect(done).toEqual(['create prepare', 'add place'])
})

it('a job that is not queued: its work is stopped and its record failed, and the caller gets the error', async () => {
  add = () => Promise.reject(new StrataError('queue_unavailable', 'away'))
  await expect(mount()).rejects.toMatchObject({ code: 'queue_unavailable' })
  expect(done).toEqual(['create prepare', 'add place', 'stop', 'fail queue_unavailable'])
})

it('what was prepared is taken back if the job is not queued, also if it cannot even be made', async () => {
  const begin = requests.begin(
    { id: 'r', kind: 'launch' },
    () => Promise.reject(new StrataError('container_exists', 'the name is used')),
    () => {
      done.push('undo')
      return Promise.reject(new Error('that cannot be undone'))
    },
  )
  await expect(begin).rejects.toMatchObject({ code: 'container_exists' })
  expect(done).toEqual(['create launch', 'stop', 'fail container_exists', 'undo'])
})

it('a request that failed is its caller’s error, in better words if somebody has them', async () => {
  end = () => Promise.resolve({ error: { code: 'launch_failed', message: 'the launch failed' } })
  await expect(requests.result('launch', 'r', HERE)).rejects.toMatchObject({ message: 'the launch failed' })
  const explain = () => Promise.resolve({ code: 'command_not_found' as const, message: 'no such command: sh' })
  await expect(requests.result('launch', 'r', HERE, explain)).rejects.toMatchObject({ code: 'command_not_found' })
})

it('a result that its contract does not know is not passed on', async () => {
  end = () => Promise.resolve({ result: { node: 7 } })
  await expect(requests.result('assemble', 'r', HERE)).rejects.toThrow()
})

it('if the client of a request that nobody else knows leaves, the request is cancelled', async () => {
  const client = new AbortController()
  end = () => {
    client.abort()
    return Promise.reject(new StrataError('cancelled', 'the request was given up'))
  }
  await expect(mount(client.signal)).rejects.toMatchObject({ code: 'cancelled' })
  expect(done).toEqual(['create prepare', 'add place', 'cancel'])
})

it.each([
  [false, ['add place', 'withdraw']],
  [true, ['add place']],
])('a job whose client leaves is taken back, unless it is to stay (%s)', async (stay, expected) => {
  const client = new AbortController()
  const work = requests.work(place, client.signal, { stay })
  client.abort(new StrataError('cancelled', 'left'))
  await expect(work).rejects.toMatchObject({ code: 'cancelled' })
  expect(done).toEqual(expected)
})
