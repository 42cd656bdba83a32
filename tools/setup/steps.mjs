import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

const colour = process.stderr.isTTY && !process.env.NO_COLOR
const dim = (text) => (colour ? `\x1b[2m${text}\x1b[0m` : text)

/** Progress goes to stderr: stdout belongs to what runs afterwards. */
export function say(text) {
  process.stderr.write(`${dim('setup')}  ${text}\n`)
}

/** One sentence, and the end. */
export function fail(sentence) {
  process.stderr.write(`${sentence}\n`)
  process.exit(1)
}

/**
 * Runs a command and keeps it quiet; if it fails, what it wrote is shown, and this process ends.
 */
export function run(what, command, args, options = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 64 << 20,
    encoding: 'utf8',
    ...options,
  })
  if (status === 0) return stdout
  process.stderr.write(`${stdout ?? ''}${stderr ?? ''}`)
  fail(`${what} failed: ${error?.message ?? `\`${command} ${args.join(' ')}\` ended with ${status}`}`)
}

/**
 * All packages, by their project references, and what is started from them; what is up to date
 * costs a second.
 */
export function build(root) {
  say('building')
  for (const script of ['node_modules/typescript/bin/tsc -b', 'tools/setup/bundle.mjs'])
    run('The build', join(root, 'node_modules/.bin/node'), script.split(' '), { cwd: root })
}
