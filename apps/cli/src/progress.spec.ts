import { describe, expect, it } from 'vitest'
import { barProgress, lineProgress } from './progress.js'

function output(columns = 80): { write(text: string): void; columns: number; text: string } {
  return {
    columns,
    text: '',
    write(text: string) {
      this.text += text
    },
  }
}

describe('lineProgress', () => {
  it('says tenths, at most one a second, and the end', () => {
    const out = output()
    let time = 0
    const progress = lineProgress(out, () => time)
    for (let bytes = 0; bytes <= 1000; bytes += 10) {
      time += 50
      progress.sent(bytes, 1000)
    }
    progress.step('extracting')
    progress.step('extracting')
    progress.step('naming')
    const lines = out.text.trimEnd().split('\n')
    expect(lines.length).toBeLessThanOrEqual(10)
    expect(lines[0]).toMatch(/^sending 190B\/1kB {2}19% {2}190B\/s$/)
    expect(lines.slice(-3)).toEqual(['sending 1kB/1kB  100%  198B/s', 'extracting', 'naming'])
    expect(out.text).not.toContain('\r')
  })
})

describe('barProgress', () => {
  it('draws one line over, never wider than the terminal', () => {
    const out = output(40)
    let time = 0
    const progress = barProgress(out, () => (time += 200))
    progress.sent(500, 1000)
    progress.sent(1000, 1000)
    progress.step('an \x1b[31m evil step')
    progress.close()
    expect(out.text).not.toContain('\n')
    for (const drawn of out.text.split('\r').slice(1)) expect(drawn.replace('\x1b[K', '').length).toBeLessThan(40)
    expect(out.text).toContain('[===============>')
    expect(out.text).not.toContain('\x1b[31m')
  })
})
