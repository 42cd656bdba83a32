import type { Command } from 'commander'
import { urlOf } from '../client.js'
import type { Context } from '../context.js'
import { download } from '../download.js'
import { CliError } from '../errors.js'

export function exportCommand(program: Command, context: Context): void {
  program
    .command('export')
    .description("an image's root file system as a tar: the same bytes each time")
    .argument('<image>')
    .option('-o, --output <file>', 'write to a file, not to stdout')
    .action(async (image: string, { output }: { output?: string }) => {
      if (output === undefined && process.stdout.isTTY)
        throw new CliError('cowardly refusing to export to a terminal. Use the -o flag or redirect')
      await download(context.client(), urlOf('exportImage', { params: { ref: image } }), output)
    })
}
