import { TAR_LIMITS } from '@strata/archive'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { file, ZEROS } from '@strata/archive/testing'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Answer } from './messages.js'
import { RingWriter } from './ring.js'
import { WorkerPair, WorkerPairs } from './worker-pairs.js'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'strata-pairs-'))
  writeFileSync(join(folder, 'small'), '')
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const never = new AbortController().signal
const kindsOf = (answers: Answer[]): string[] => answers.map((answer) => answer.kind)

async function good(pair: WorkerPair): Promise<string[]> {
  const ring = new RingWriter(pair.ring)
  const answers = pair.run({ keyPrefix: 'data/u/', folder, limits: TAR_LIMITS, layer: TAR_LIMITS, whole: false }, () => undefined, () => undefined)
  await ring.write(Buffer.concat([file('a', 'x'), ZEROS]))
  await ring.end()
  return kindsOf(await answers)
}

describe('WorkerPair', () => {
  it('is of use again after one of the two failed and the other was stopped', async () => {
    const pair = new WorkerPair()
    const ring = new RingWriter(pair.ring)
    const answers = await pair.run({ keyPrefix: 'data/u/', folder: join(folder, 'absent'), limits: TAR_LIMITS, layer: TAR_LIMITS, whole: false }, () => undefined, (answer) => {
      if (answer.kind === 'failed') ring.abort()
    })
    expect(answers).toMatchObject([{ kind: 'failed', code: 'store_unavailable' }, { kind: 'aborted' }])
    expect(await good(pair)).toEqual(['written', 'hashed'])
    await pair.end()
  })

  it('answers for threads that die, and is replaced', async () => {
    const pairs = new WorkerPairs(1)
    const pair = await pairs.acquire(never)
    const answers = pair.run({ keyPrefix: 'data/u/', folder, limits: TAR_LIMITS, layer: TAR_LIMITS, whole: false }, () => undefined, () => undefined)
    await pair.end()
    expect(kindsOf(await answers)).toEqual(['failed', 'failed'])
    await pairs.release(pair)
    const next = await pairs.acquire(never)
    expect(next).not.toBe(pair)
    expect(await good(next)).toEqual(['written', 'hashed'])
    await pairs.release(next)
    expect(await pairs.acquire(never)).toBe(next)
    await pairs.close()
    await expect(new WorkerPairs(1).acquire(AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone')
  })
})
