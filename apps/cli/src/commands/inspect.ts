import type { ErrorCode } from '@strata/base'
import type { Command } from 'commander'
import type { Client } from '../client.js'
import { type Context } from '../context.js'
import { CliError } from '../errors.js'
import { inspectedContainer, inspectedImage } from '../format/docker-inspect.js'
import { jsonOf } from '../format/template-values.js'
import { parseFormat, type Format } from '../list.js'
import { complain, print, printRendered, printText } from '../terminal.js'

export function inspectCommand(program: Command, context: Context): void {
  program
    .command('inspect')
    .description("all that is known of containers or images, as a JSON array, by docker's names")
    .argument('<name...>', 'a container or an image; a container goes first')
    .option(
      '-f, --format <format>',
      "json (the array in one line), or a template of Go's: '{{.State.Status}}'",
      parseFormat,
    )
    .action(async (names: string[], { format }: { format?: Format }) => {
      const client = context.client()
      if (format?.kind === 'table') throw new CliError('inspect has no table: its formats are json and templates')
      const found: object[] = []
      for (const name of names) {
        const object = await lookUp(client, name)
        if (object === undefined) {
          complain(`no such object: ${name}`)
          process.exitCode = 1
        } else found.push(object)
      }
      if (format === undefined) printText(jsonOf(found, 4))
      else if (format.kind === 'json') print(jsonOf(found))
      else for (const object of found) printRendered(format.render(object))
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

async function lookUp(client: Client, name: string): Promise<object | undefined> {
  const kinds: (() => Promise<object>)[] = [
    async () => inspectedContainer(await client.call('getContainer', { params: { id: name } })),
    async () => inspectedImage(await client.call('getImage', { params: { ref: name } })),
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
