// A real engine with compose and all images, to try docker-compose.yml by hand. As root:
//
//   node tools/deploy/dist/engine/main.js up FOLDER      builds what is missing, starts, prints how to reach it
//   node tools/deploy/dist/engine/main.js down FOLDER    ends every process of it, and removes the folder
import { resolve } from 'node:path'
import { prepareHost } from './deployment.js'
import { TestHost } from './host.js'

const [action, given] = process.argv.slice(2)
if ((action !== 'up' && action !== 'down') || given === undefined) {
  process.stderr.write('usage: node tools/deploy/dist/engine/main.js up|down FOLDER\n')
  process.exit(2)
}
const folder = resolve(given)
if (action === 'down') await TestHost.at(folder).remove()
else {
  const host = await prepareHost(folder, (line) => {
    process.stderr.write(`${line}\n`)
  })
  for (const [name, value] of Object.entries(host.environment())) process.stdout.write(`export ${name}=${value}\n`)
  process.stdout.write(`# then: docker compose up -d. A shell on that host: ${host.command('bash').join(' ')}\n`)
}
