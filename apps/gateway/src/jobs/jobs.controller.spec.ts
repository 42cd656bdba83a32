import { createServer, type ServerResponse } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import type { JournalRecord } from '@strata/queue'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { expect, it } from 'vitest'
import { JobsController } from './jobs.controller.js'
import type { Requests } from './requests.js'

const job = (state: JournalRecord['state'], at: number): JournalRecord =>
  ({ id: 'x', state, updatedAt: String(at), step: 'x'.repeat(10_000) }) as unknown as JournalRecord
const CHANGES = 5_000

it('a client that does not read the events of a job holds none of them back, and is told its end', async () => {
  let asked = 0
  async function* follow(): AsyncGenerator<JournalRecord> {
    for (; asked < CHANGES; asked++) yield job('active', asked)
    yield await Promise.resolve(job('failed', asked))
  }
  const requests = { get: () => Promise.resolve(job('active', 0)), follow }
  const controller = new JobsController(requests as unknown as Requests)
  let response: ServerResponse | undefined
  const server = createServer((request, raw) => {
    response = raw
    const reply = { raw, hijack: () => undefined } as unknown as FastifyReply
    void controller.events('x', { headers: request.headers } as unknown as FastifyRequest, reply)
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  client.pause()
  client.write('GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n')
  await expect.poll(() => response?.writableNeedDrain).toBe(true)
  expect(asked).toBeLessThan(CHANGES)
  expect(response!.writableLength).toBeLessThan(1024 * 1024)
  let text = ''
  client.setEncoding('utf8').on('data', (piece: string) => (text = (text + piece).slice(-20_000)))
  await new Promise((resolve) => client.once('end', resolve).resume())
  expect(text).toContain('event: end')
  server.close()
})
