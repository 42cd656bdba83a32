import { formatReference, parseReference } from '@strata/oci/reference'
import type { Command } from 'commander'
import type { Context } from '../context.js'
import { pull, pullReport, readName, type PullOptions } from '../pull.js'
import { print, printText } from '../terminal.js'

export function pullCommand(program: Command, context: Context): void {
  program
    .command('pull')
    .description('pull an image from a registry')
    .argument('<name>', 'with a tag, latest without one, or a digest')
    .option('--platform <platform>', 'which platform of an image that has several: os/arch, or all to keep every one')
    .option('-q, --quiet', 'no progress; prints the name alone')
    .option('--insecure', 'the registry may answer by HTTP, or with a certificate that nobody vouches for')
    .action(async (name: string, options: PullOptions) => {
      const reference = readName(name)
      const { tag, digest } = parseReference(name)
      if (!options.quiet && tag === undefined && digest === undefined) print('Using default tag: latest')
      const pulled = await pull(context.client(), context, reference, options)
      if (!options.quiet && pulled) printText(pullReport(reference, pulled))
      print(formatReference(reference))
    })
}
