import { describe } from './archive.mjs'
import { Docker } from './docker.mjs'
import { median, run } from './processes.mjs'
import { Strata } from './strata.mjs'

const WARM_UP = 5

/** `run --rm IMAGE true`, from the start of the command to its exit, of docker and Strata in turns. The image is there; neither has a network to make. */
export async function benchRun({ file, folder, rounds = 20, withDocker }) {
  const { image } = describe(file)
  const docker = withDocker ? await Docker.start(folder) : undefined
  const strata = await Strata.start(folder)
  try {
    docker?.load(file)
    strata.load('curl', file)
    const sides = { ...(docker && { docker }), strata }
    const times = Object.fromEntries(Object.keys(sides).map((name) => [name, []]))
    for (let round = 0; round < WARM_UP + rounds; round++) {
      for (const [name, side] of Object.entries(sides)) {
        const before = performance.now()
        run(...side.runCommand(image, ['true']))
        if (round >= WARM_UP) times[name].push(performance.now() - before)
      }
    }
    return table(times, rounds, docker?.version())
  } finally {
    await strata.stop()
    await docker?.stop()
  }
}

function table(times, rounds, version) {
  const lines = Object.entries(times).map(([name, all]) => {
    const sorted = [...all].sort((a, b) => a - b)
    const ratio = times.docker && name !== 'docker' ? (median(all) / median(times.docker)).toFixed(2) : ''
    return `| ${name === 'docker' ? `docker ${version}` : name} | ${median(all).toFixed(0)} | ${sorted[0].toFixed(0)} | ${sorted[Math.ceil(sorted.length * 0.95) - 1].toFixed(0)} | ${ratio} |`
  })
  return [`\`run --rm IMAGE true\`, ${rounds} rounds after ${WARM_UP}`, '', '| | median, ms | least | p95 | of docker |', '| --- | --- | --- | --- | --- |', ...lines].join('\n')
}
