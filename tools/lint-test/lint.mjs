// All of lint: `npm run lint`. ESLint takes as long as the others together, and runs beside them.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const FOLDERS = ['libs', 'apps', 'tools']
const ESLINT = ['eslint', ...FOLDERS]
const OTHERS = [
  ['prettier', '--check', '--log-level', 'warn', '.'],
  ['knip', '--no-progress', '--no-config-hints'],
  ['depcruise', '--config', '.dependency-cruiser.json', ...FOLDERS],
]

/** What it says is printed when it has ended, so that no two programs speak at once. */
async function isClean([program, ...args]) {
  const child = spawn(join(ROOT, 'node_modules/.bin', program), args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] })
  const [output, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  process.stdout.write(output)
  process.stderr.write(errors)
  if (code !== 0) process.stdout.write(`${program} failed\n`)
  return code === 0
}

async function othersAreClean() {
  let areClean = true
  for (const other of OTHERS) areClean = (await isClean(other)) && areClean
  return areClean
}

const results = await Promise.all([isClean(ESLINT), othersAreClean()])
process.exitCode = results.every(Boolean) ? 0 : 1
