import type { ErrorCode } from '@strata/base'
import type { Command } from 'commander'
import type { Client } from '../client.js'
import { type Context } from '../context.js'
import { CliError } from '../errors.js'
import { complain, printText } from '../terminal.js'

export function inspectCommand(program: Command, context: Context): void {
  program
    .command('inspect')
    .description('all that is known of containers or images, as a JSON array')
    .argument('<name...>', 'a container or an image; a container goes first')
    .action(async (names: string[]) => {
      const client = context.client()
      const found: unknown[] = []
      for (const name of names) {
        const object = await lookUp(client, name)
        if (object === undefined) {
          complain(`no such object: ${name}`)
          process.exitCode = 1
        } else found.push(object)
      }
      printText(JSON.stringify(found, undefined, 4))
    })
}

// A name that cannot be one of the kind asked for is none of it.
const ABSENT: readonly ErrorCode[] = [
  'container_not_found',
  'image_not_found',
  'not_found',
  'name_invalid',
  'bad_request',
]

async function lookUp(client: Client, name: string): Promise<unknown> {
  const kinds = [
    () => client.call('getContainer', { params: { id: name } }),
    () => client.call('getImage', { params: { ref: name } }),
  ]
  for (const get of kinds) {
    try {
      return await get()
    } catch (error) {
      if (!(error instanceof CliError && error.code !== undefined && ABSENT.includes(error.code))) throw error
    }
  }
  return undefined
}
