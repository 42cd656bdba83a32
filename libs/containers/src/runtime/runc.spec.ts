import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createError, Runc, runcWarnings, runtimeMessage } from './runc.js'
import { parseSignal, stopSignalOf } from './signals.js'

describe("the runtime's words", () => {
  it.each([
    [
      'runc create failed: unable to start container process: exec: "no": executable file not found in $PATH',
      'command_not_found',
    ],
    [
      'runc create failed: unable to start container process: exec: "/no": stat /no: no such file or directory',
      'command_not_found',
    ],
    [
      'runc create failed: unable to start container process: exec: "/etc/x": permission denied',
      'command_not_executable',
    ],
    ['runc create failed: unable to start container process: exec: "/etc": is a directory', 'command_not_executable'],
    ['exec /x: exec format error: starting container process', 'command_not_executable'],
    ['runc create failed: container with given ID already exists', 'launch_failed'],
    [
      'runc create failed: unable to start container process: error mounting "/x" to rootfs at "/y": no such file or directory',
      'launch_failed',
    ],
    ['', 'launch_failed'],
  ])('%j', (message, code) => {
    expect(createError(message).code).toBe(code)
  })

  it('lose their decoration', () => {
    expect(
      runtimeMessage('time="x" level=warning msg="a"\ntime="2026" level=error msg="exec: \\"no\\": not found"\n'),
    ).toBe('exec: "no": not found')
    expect(runtimeMessage(' \n')).toBe('it said nothing')
  })

  it.each([
    ['1.1.5+ds1', 1],
    ['1.2.7', 1],
    ['1.2.8', 0],
    ['1.3.5', 1],
    ['1.3.6', 0],
    ['1.4.0', 0],
    ['2.0.0', 0],
  ])('version %s: %i warnings', (version, count) => {
    expect(runcWarnings(`runc version ${version}\ncommit: x\n`)).toHaveLength(count)
  })

  it('are none for the runc of the node image', () => {
    const dockerfile = readFileSync(join(import.meta.dirname, '../../../../infra/strata/Dockerfile'), 'utf8')
    const version = /^ARG RUNC=v(\d+\.\d+\.\d+)$/m.exec(dockerfile)?.[1] ?? expect.fail('it names no runc')
    expect(runcWarnings(`runc version ${version}\n`)).toEqual([])
  })

  it('are not asked of another runtime', () => {
    expect(runcWarnings('crun version 1.8.1\n')).toEqual([])
  })
})

describe('a list of containers', () => {
  it('is empty where none was made yet, and has also what is half-made, whatever the runtime can read', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'strata-runc-'))
    const runc = new Runc('/bin/false', join(folder, 'runc'), folder)
    expect(await runc.list()).toEqual([])
    // The second is crun's own.
    for (const name of ['half-made', '.cache']) mkdirSync(join(folder, 'runc', name), { recursive: true })
    expect(await runc.list()).toEqual(['half-made'])
    rmSync(folder, { recursive: true })
  })
})

describe('signals', () => {
  it.each([
    ['TERM', 'TERM'],
    ['sigint', 'INT'],
    ['9', '9'],
    ['SIGRTMIN+3', '37'],
    ['RTMAX-1', '63'],
  ])('%s is %s', (text, signal) => {
    expect(parseSignal(text)).toBe(signal)
  })

  it.each(['', '0', '65', 'NOPE', 'RTMIN+40', '-9', 'KILL x'])('%j is none', (text) => {
    expect(() => parseSignal(text)).toThrow(expect.objectContaining({ code: 'bad_request' }) as Error)
  })

  it("an image's own is TERM where it names none", () => {
    expect([stopSignalOf('SIGQUIT'), stopSignalOf(''), stopSignalOf(undefined), stopSignalOf('x; rm')]).toEqual([
      'QUIT',
      'TERM',
      'TERM',
      'TERM',
    ])
  })
})
