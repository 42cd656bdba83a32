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
    .description('all that is known of containers or images, as a JSON array')
    .argument('<name...>', 'a container or an image; a container goes first')
    .option(
      '-f, --format <format>',
      "docker's description of them: json, or a template, as '{{.State.Status}}'",
      parseFormat,
    )
    .action(async (names: string[], { format }: { format?: Format }) => {
      const client = context.client()
      if (format?.kind === 'table') throw new CliError('inspect has no table: its formats are json and templates')
      const found: Inspected[] = []
      for (const name of names) {
        const object = await lookUp(client, name)
        if (object === undefined) {
          complain(`no such object: ${name}`)
          process.exitCode = 1
        } else found.push(object)
      }
      if (format === undefined)
        printText(
          JSON.stringify(
            found.map(({ view }) => view),
            undefined,
            4,
          ),
        )
      else if (format.kind === 'json') print(jsonOf(found.map(({ docker }) => docker())))
      else for (const { docker } of found) printRendered(format.render(docker()))
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

interface Inspected {
  /** The API's object. */
  readonly view: unknown
  /** docker's. */
  readonly docker: () => object
}

async function lookUp(client: Client, name: string): Promise<Inspected | undefined> {
  const kinds: (() => Promise<Inspected>)[] = [
    async () => {
      const view = await client.call('getContainer', { params: { id: name } })
      return { view, docker: () => inspectedContainer(view) }
    },
    async () => {
      const view = await client.call('getImage', { params: { ref: name } })
      return { view, docker: () => inspectedImage(view) }
    },
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
