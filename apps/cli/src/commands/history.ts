import type { Command } from 'commander'
import type { Context } from '../context.js'
import { ago, humanSize } from '../format/units.js'
import { shortId } from '../format/table.js'
import { printList, withListOptions, type ListOptions } from '../list.js'

const COMMAND = 45

/**
 * docker's, the last step first, with what each layer holds in place of docker's ids, which it has
 * none of.
 */
export function historyCommand(program: Command, context: Context): void {
  withListOptions(
    program
      .command('history')
      .description('the steps that made an image, each with the layer that it made and what that holds')
      .argument('<image>'),
  )
    .option('--no-trunc', 'commands in full')
    .action(async (image: string, options: ListOptions & { trunc: boolean }) => {
      const { steps } = await context.client().call('imageHistory', { params: { ref: image } })
      const now = Date.now()
      printList(steps.reverse(), options, {
        titles: {
          ID: 'IMAGE',
          Layer: 'LAYER',
          CreatedSince: 'CREATED',
          CreatedAt: 'CREATED AT',
          CreatedBy: 'CREATED BY',
          Size: 'SIZE',
          Files: 'FILES',
          Whiteouts: 'WHITEOUTS',
          Comment: 'COMMENT',
        },
        columns: ['Layer', 'CreatedSince', 'CreatedBy', 'Size', 'Files', 'Whiteouts', 'Comment'],
        rows: ({ layer, created, createdBy, comment }) => [
          {
            // docker's word for a step whose image is not here: all of them.
            ID: '<missing>',
            Layer: layer ? shortId(layer.diffId) : '',
            CreatedSince: ago(created, now),
            CreatedAt: created ?? '',
            CreatedBy: options.trunc ? shortened(createdBy) : createdBy,
            Size: humanSize(layer?.files.bytes ?? 0),
            Files: String(layer?.files.count ?? 0),
            Whiteouts: String(layer?.whiteouts ?? 0),
            Comment: comment,
          },
        ],
        id: ({ layer }) => (layer ? shortId(layer.diffId) : '<none>'),
      })
    })
}

function shortened(command: string): string {
  const words = command.replace(/\s+/g, ' ')
  return words.length > COMMAND ? `${words.slice(0, COMMAND - 1)}…` : words
}
