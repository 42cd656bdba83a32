// All of lint, and the types: `npm run lint`. Types with ESLint take longer than the others
// together, and run beside them.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
// With more room for young objects, of which both make many, less is copied.
const TYPES_AND_ESLINT = ['node', '--max-semi-space-size=64', 'tools/lint-test/types-and-eslint.mjs']
const OTHERS = [
  ['prettier', '--check', '--log-level', 'warn', '.'],
  ['knip', '--no-progress', '--no-config-hints'],
  ['depcruise', '--config', '.dependency-cruiser.json', 'libs', 'apps', 'tools'],
]

/** What it says is printed when it has ended, so that no two programs speak at once. */
async function isClean([program, ...args]) {
  const child = spawn(join(ROOT, 'node_modules/.bin', program), args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] })
  const [output, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  process.stdout.write(output)
  process.stderr.write(errors)
  if (code !== 0) process.stdout.write(`${[program, ...args].join(' ')} failed\n`)
  return code === 0
}

async function othersAreClean() {
  let areClean = true
  for (const other of OTHERS) areClean = (await isClean(other)) && areClean
  return areClean
}

const results = await Promise.all([isClean(TYPES_AND_ESLINT), othersAreClean()])
process.exitCode = results.every(Boolean) ? 0 : 1
