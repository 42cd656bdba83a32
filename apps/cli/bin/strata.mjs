#!/bin/sh
":" //; here=$(readlink -f "$0"); root=${here%/apps/cli/bin/*}; node=$root/node_modules/.bin/node; main=$root/dist/cli.js; [ -x "$node" ] && [ -f "$main" ] && exec "$node" "$main" "$@"; exec node "$here" "$@"
// This file is both: `sh` runs the line above, which becomes the checkout's own Node with no process in between (half the start of a
// command, and signals reach it alone). `node strata.mjs` (any Node from 20 on) skips that line as a string and a comment, and goes on here.
import { spawn } from 'node:child_process'
import { accessSync, constants, existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { constants as system } from 'node:os'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(new URL('../../../dist/cli.js', import.meta.url))

/** The repository's Node 24, installed as the npm package `node`. */
function ownNode() {
  try {
    const path = join(dirname(createRequire(import.meta.url).resolve('node/package.json')), 'bin', 'node')
    accessSync(path, constants.X_OK)
    return path
  } catch {
    return undefined
  }
}

function refuse(sentence) {
  process.stderr.write(`strata: ${sentence}\n`)
  process.exitCode = 1
}

if (!existsSync(main)) refuse('not built yet: run `npm run build` in the checkout')
else if (Number(process.versions.node.split('.')[0]) >= 24) await import(main)
else {
  const node = ownNode()
  const args = [main, ...process.argv.slice(2)]
  if (node === undefined) refuse('its Node.js 24 is not installed: run `npm install` in the checkout')
  else if (process.execve !== undefined) process.execve(node, [node, ...args], process.env)
  else {
    const child = spawn(node, args, { stdio: 'inherit' })
    for (const signal of ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2'])
      process.on(signal, () => {
        // The keys of a terminal reach the whole process group, the child too.
        const typed = (signal === 'SIGINT' || signal === 'SIGQUIT') && process.stdin.isTTY
        if (!typed) child.kill(signal)
      })
    child.on('error', (error) => refuse(`cannot start ${node}: ${error.message}`))
    child.on('exit', (code, signal) => {
      process.exitCode = code ?? 128 + system.signals[signal]
    })
  }
}
