#!/usr/bin/env node
// Makes a fresh machine ready, then runs what was asked for on the checkout's own Node. Runs on any
// Node.js from 20 on, before anything is installed.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { installNpmPackages } from './npm-packages.mjs'
import {
  isCommand,
  missingForCompose,
  missingForTests,
  missingPackages,
  installSystemPackages,
  installHint,
} from './system-packages.mjs'
import { build, fail, say } from './steps.mjs'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const SCRIPTS = { demo: 'tools/demo/demo.mjs', test: 'tools/test/all.mjs', ready: undefined, compose: undefined }

const [task, ...args] = process.argv.slice(2)
if (!task || !Object.hasOwn(SCRIPTS, task))
  fail(`usage: node tools/setup/run.mjs ${Object.keys(SCRIPTS).join('|')} [arguments]`)
if (Number(process.versions.node.split('.')[0]) < 20)
  fail(`Node.js ${process.versions.node} is too old: install 20 or later.`)
if (process.platform !== 'linux' && task === 'demo')
  fail('Containers need Linux: run the demo on a Linux machine or in a Linux virtual machine.')

const isRoot = process.getuid?.() === 0
if (!isRoot && task === 'demo') fail('Mounts and containers need root: run `sudo npm run demo`.')

const missing = process.platform === 'linux' ? missingPackages() : []
if (missing.length > 0 && task !== 'test' && !isRoot)
  fail(
    `Not installed: ${missing.map(({ name }) => name).join(', ')}. Run this as root, or first: ${installHint(missing)}`,
  )
// Without root `npm test` runs what it can, and says what it left out.
const beside = { test: missingForTests, compose: missingForCompose }[task]
const wanted = [...missing, ...(beside && isCommand('apt-get') ? beside() : [])]
if (wanted.length > 0 && isRoot) installSystemPackages(wanted)
installNpmPackages(ROOT)
build(ROOT)

const script = SCRIPTS[task]
if (script) {
  // A terminal sends Ctrl-C to the whole group: the script cleans up and ends, and this process
  // ends after it.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
    process.on(signal, () => signal !== 'SIGINT' && child.kill(signal))
  const node = join(ROOT, 'node_modules/.bin/node')
  if (!existsSync(join(ROOT, script))) fail(`${script} is not in this checkout.`)
  const child = spawn(node, [script, ...args], {
    cwd: ROOT,
    stdio: 'inherit',
    env: {
      ...process.env,
      PATH: `${join(ROOT, 'node_modules/.bin')}:${process.env.PATH}`,
      CALLER_DIR: process.env.INIT_CWD ?? process.cwd(),
    },
  })
  child.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 1)))
} else say('ready')
