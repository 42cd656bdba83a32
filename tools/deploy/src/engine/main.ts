// A host with a real engine, compose and all images, to try docker-compose.yml by hand. As root:
//
//   node_modules/.bin/node tools/deploy/dist/engine/main.js up FOLDER        builds what is missing, and starts it
//   node_modules/.bin/node tools/deploy/dist/engine/main.js shell FOLDER     a shell on that host; a command, too
//   node_modules/.bin/node tools/deploy/dist/engine/main.js down FOLDER      ends every process of it, and removes the folder
import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'
import { prepareHost } from './deployment.js'
import { TestHost } from './host.js'

const [action, given, ...command] = process.argv.slice(2)
const folder = given === undefined ? '' : resolve(given)
switch (folder && action) {
  case 'up': {
    const { releases } = await prepareHost(folder, (line) => {
      process.stderr.write(`${line}\n`)
    })
    process.stdout.write(
      `the checkout: ${releases.checkout}, with the releases ${releases.current} and ${releases.next}\n`,
    )
    break
  }
  case 'shell': {
    const shell = command.length > 0 ? command : ['bash', '--norc']
    const { program, args, env } = TestHost.at(folder).command(shell, process.cwd())
    process.exitCode = spawnSync(program, args, { env: { ...env, PS1: '\\h:\\w# ' }, stdio: 'inherit' }).status ?? 1
    break
  }
  case 'down':
    await TestHost.at(folder).remove()
    break
  default:
    process.stderr.write('usage: main.js up FOLDER | shell FOLDER [COMMAND…] | down FOLDER\n')
    process.exitCode = 2
}
