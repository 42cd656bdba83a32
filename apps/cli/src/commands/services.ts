import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import { CliError } from '../errors.js'
import { NODE_FLAGS, SERVICE_ENVIRONMENT, serviceMain } from '../service.js'

const SERVICES = {
  gateway: 'run the public API by itself',
  ingest: 'run the service that makes images of uploads, by itself',
  extractor: 'run the service that makes layers usable on this node, by itself',
  storage: 'run the service that keeps the store, by itself',
  runtime: "run this node's service for roots and containers, by itself",
} as const

/**
 * The services as processes of their own, where `up` runs all in one. Each is configured by its
 * environment, and tells all of it with `--help`.
 */
export function serviceCommands(program: Command): void {
  for (const [name, description] of Object.entries(SERVICES)) {
    program
      .command(name)
      .description(description)
      .helpOption(false)
      .allowUnknownOption()
      .allowExcessArguments()
      .action((_options: object, { args }: Command) => {
        const main = serviceMain(name)
        if (!existsSync(main)) throw new CliError('not built yet: run `npm run build` in the checkout')
        // This process becomes the service: its signals, output and exit code need nobody in
        // between.
        process.execve!(process.execPath, [process.execPath, ...NODE_FLAGS, main, ...args], {
          ...SERVICE_ENVIRONMENT,
          ...process.env,
        })
      })
  }
}
