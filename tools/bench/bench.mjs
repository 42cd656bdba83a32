#!/usr/bin/env node
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { benchLoad } from './load.mjs'
import { benchMemory } from './memory.mjs'
import { benchRun } from './launch.mjs'

const USAGE = `Strata beside docker, in one run on this machine; the table goes to stdout as Markdown. As root.

  bench load FILE     an archive in, until its image's root is mounted and a file of each layer was read
  bench run FILE      \`run --rm IMAGE true\`, the whole command
  bench memory FILE   what two loads and a launch at once take

  --rounds N          5 for load, 20 for run
  --folder DIR        where both keep their data, on a real disk (/var/tmp/strata-bench)
  --no-docker         Strata alone
`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string' }, folder: { type: 'string', default: '/var/tmp/strata-bench' }, 'no-docker': { type: 'boolean', default: false }, help: { type: 'boolean' } },
})
const [what, file] = positionals
const benches = { load: benchLoad, run: benchRun, memory: benchMemory }
if (values.help || file === undefined || !Object.hasOwn(benches, what)) {
  process.stdout.write(USAGE)
  process.exit(values.help ? 0 : 1)
}
const rounds = values.rounds === undefined ? undefined : Number(values.rounds)
process.stdout.write(`${machine()}\n\n`)
process.stdout.write(`${await benches[what]({ file: resolve(file), folder: values.folder, withDocker: !values['no-docker'], ...(rounds && { rounds }) })}\n`)

function machine() {
  const [cpu] = /^model name\s*: (.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.slice(1) ?? ['unknown processor']
  const output = (program, args) => spawnSync(program, args, { encoding: 'utf8' }).stdout.trim()
  const load = readFileSync('/proc/loadavg', 'utf8').split(' ').slice(0, 3).join(' ')
  return `${new Date().toISOString().slice(0, 16)}Z; ${output('nproc', [])} × ${cpu}; Linux ${output('uname', ['-r'])}; load before: ${load}`
}
