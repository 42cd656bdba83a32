import { spawn } from 'node:child_process'
import { describe, warm } from './archive.mjs'
import { median } from './processes.mjs'
import { Strata } from './strata.mjs'

/** The service's peak while two loads and a launch go on at once, over what it holds when it has just started. */
export async function benchMemory({ file, folder, rounds = 3 }) {
  const { image } = describe(file)
  const all = []
  for (let round = 0; round < rounds; round++) {
    warm(file)
    const strata = await Strata.start(folder)
    try {
      strata.load('curl', file)
      const first = strata.peak()
      await Promise.all([strata.loadCommand('curl', file), strata.loadCommand('curl', file), strata.runCommand(image, ['true'])].map(ended))
      all.push({ idle: strata.idle, first, peak: strata.peak() })
    } finally {
      await strata.stop()
    }
  }
  const of = (field) => median(all.map((row) => row[field])).toFixed(0)
  return ['| idle, MiB | peak of one load | peak of two loads and a launch at once |', '| --- | --- | --- |', `| ${of('idle')} | ${of('first')} | ${of('peak')} |`].join('\n')
}

function ended([program, args, env]) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'inherit'] })
    child.once('error', reject).once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`${program} ended with ${code}`))))
  })
}
