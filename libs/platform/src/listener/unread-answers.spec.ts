import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { Connection } from './connection.js'
import { UnreadAnswers } from './unread-answers.js'

const KIB = 1024
const MINUTE = 60_000
const cut = vi.fn()
let unread: UnreadAnswers

beforeEach(() => {
  vi.useFakeTimers()
  cut.mockReset()
  unread = new UnreadAnswers(MINUTE, cut)
})
afterEach(() => {
  unread.close()
  vi.useRealTimers()
})

/** A connection as libuv would show it: `kernel` takes bytes of what was written. */
function answerOf(bytes: number, { isEnded = true, mayPause = false } = {}) {
  const handle = { bytesWritten: bytes, writeQueueSize: bytes }
  const response = { writableEnded: isEnded }
  const connection = { socket: { _handle: handle }, turns: [{ response, mayPause }] } as unknown as Connection
  unread.watch(connection)
  return { handle, response, take: (of: number) => (handle.writeQueueSize = Math.max(0, handle.writeQueueSize - of)) }
}
/** Lets the client take `lump` bytes each `seconds`, for an hour or until it has all. */
function takes(answer: ReturnType<typeof answerOf>, lump: number, seconds: number): void {
  for (let at = seconds; at <= 3_600 && !cut.mock.calls.length && answer.handle.writeQueueSize > 0; at += seconds) {
    vi.advanceTimersByTime(seconds * 1_000)
    answer.take(lump)
  }
}

it.each([
  ['a byte each 50 s', 1, 50],
  ['100 bytes a second', 100, 1],
  ['500 bytes a second, in lumps', 500 * 40, 40],
])('cuts off a client that takes %s of an answer that waits whole', (_, lump, seconds) => {
  takes(answerOf(4 * KIB * KIB), lump, seconds)
  expect(cut).toHaveBeenCalledTimes(1)
})

it.each([1, 7, 13, 31, 45, 59])('leaves one that takes 1 KiB a second, in lumps of %i s', (seconds) => {
  const answer = answerOf(3 * KIB * KIB)
  takes(answer, seconds * KIB, seconds)
  expect(cut).not.toHaveBeenCalled()
  expect(answer.handle.writeQueueSize).toBe(0)
})

it('leaves a slow client of an answer that is produced still, and one that may pause', () => {
  takes(answerOf(4 * KIB * KIB, { mayPause: true }), 1, 50)
  const produced = answerOf(4 * KIB * KIB, { isEnded: false })
  takes(produced, 1, 50)
  expect(cut).not.toHaveBeenCalled()
  // From its end on it is judged, and by what is taken from then on.
  produced.response.writableEnded = true
  takes(produced, 1, 50)
  expect(cut).toHaveBeenCalledTimes(1)
})

it('leaves one that has taken all there is, however long nothing more comes', () => {
  const answer = answerOf(10)
  answer.take(10)
  vi.advanceTimersByTime(10 * MINUTE)
  answer.handle.bytesWritten += KIB
  answer.handle.writeQueueSize = KIB
  vi.advanceTimersByTime(MINUTE / 2)
  answer.take(1)
  vi.advanceTimersByTime(MINUTE / 4)
  expect(cut).not.toHaveBeenCalled()
})

it('cuts off one that takes nothing for the time of a window, whatever it is of', () => {
  answerOf(KIB, { isEnded: false })
  vi.advanceTimersByTime(1.5 * MINUTE)
  expect(cut).toHaveBeenCalled()
})

it('leaves one that took all it could while this process stood still', () => {
  const idle = answerOf(3 * KIB * KIB, { isEnded: false })
  const slow = answerOf(3 * KIB * KIB)
  const now = performance.now.bind(performance)
  const stopped = vi.spyOn(performance, 'now')
  const takeFor = (seconds: number): void => {
    for (let at = 0; at < seconds; at += 15) {
      vi.advanceTimersByTime(15_000)
      slow.take(16 * KIB)
    }
  }
  takeFor(45)
  idle.take(1)
  for (const minutes of [2, 3]) {
    stopped.mockImplementation(() => now() + (minutes - 1) * MINUTE)
    takeFor(45)
    idle.take(1)
  }
  expect(cut).not.toHaveBeenCalled()
  vi.advanceTimersByTime(1.5 * MINUTE)
  expect(cut).toHaveBeenCalled()
  stopped.mockRestore()
})
