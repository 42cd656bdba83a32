import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ask } from './processes.mjs'

const ROOT = join(import.meta.dirname, '../..')
const PAGE = join(ROOT, 'docs/performance.md')
const PLOTS = join(ROOT, 'docs/plots')

/**
 * Prints a bench's result, and writes it into docs/performance.md between `<!-- bench:NAME -->` and
 * `<!-- /bench:NAME -->`, its plot as docs/plots/NAME.svg. `text` is Markdown. Of what the page
 * says elsewhere nothing changes.
 */
export function publish(name, { text, plot, machine }, isWritten) {
  const body = [machine, '', text, ...(plot ? ['', `![${plot.title}](plots/${name}.svg)`] : [])].join('\n')
  process.stdout.write(`${body}\n`)
  if (!isWritten) return
  if (plot) {
    mkdirSync(PLOTS, { recursive: true })
    writeFileSync(join(PLOTS, `${name}.svg`), plot.svg)
  }
  const page = readFileSync(PAGE, 'utf8')
  const [begin, end] = [`<!-- bench:${name} -->`, `<!-- /bench:${name} -->`]
  const [before, rest] = page.split(begin)
  const after = rest?.split(end)[1]
  if (after === undefined) throw new Error(`docs/performance.md has no place for this result: ${begin} … ${end}`)
  writeFileSync(PAGE, `${before}${begin}\n${body}\n${end}${after}`)
}

/** Date, processor, kernel, file system, load and the command that was given. */
export function machine(folder) {
  const [cpu] = /^model name\s*: (.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.slice(1) ?? ['unknown processor']
  const load = readFileSync('/proc/loadavg', 'utf8').split(' ').slice(0, 3).join(' ')
  const memory = Number(/^MemTotal:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))[1]) / 1024 ** 2
  const fileSystem = ask('findmnt', ['-n', '-o', 'FSTYPE', '-T', folder])
  const commit = ask('git', ['-C', ROOT, 'rev-parse', '--short', 'HEAD'])
  return [
    `    npm run bench -- ${process.argv.slice(2).join(' ')}`,
    '',
    `${new Date().toISOString().slice(0, 16)}Z${commit ? `, commit ${commit}` : ''}; ${ask('nproc', [])} × ${cpu}, ${memory.toFixed(0)} GB; Linux ${ask('uname', ['-r'])}, ${fileSystem}; load average before: ${load}.`,
  ].join('\n')
}

export function table(head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** `median (least–most)`. */
export function spread(values, digits) {
  return `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)}–${Math.max(...values).toFixed(digits)})`
}
