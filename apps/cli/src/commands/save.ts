import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { urlOf } from '../client.js'
import type { Context } from '../context.js'
import { download } from '../download.js'
import { CliError, reasonOf } from '../errors.js'

interface SaveOptions {
  readonly output?: string
  readonly format: 'docker' | 'oci'
  readonly platform?: string
  readonly since: string[]
  readonly have?: string
}

export function saveCommand(program: Command, context: Context): void {
  program
    .command('save')
    .description('save images to an archive, which docker load, podman load, skopeo and strata load take')
    .argument('<image...>')
    .option('-o, --output <file>', 'write to a file, not to stdout')
    .option('--format <format>', 'docker (an OCI layout with manifest.json) or oci', 'docker')
    .option('--platform <platform>', 'of images kept with all their platforms: this one alone')
    .option(
      '--since <image>',
      'leave out the layers of an image that the receiver has; may be repeated',
      (value: string, all: string[]) => [...all, value],
      [],
    )
    .option('--have <file>', 'leave out the layers whose digests are in the file, one a line')
    .action(async (images: string[], { output, format, platform, since, have }: SaveOptions) => {
      if (output === undefined && process.stdout.isTTY)
        throw new CliError('cowardly refusing to save to a terminal. Use the -o flag or redirect')
      const query = { image: images, format, platform, since, have: await digestsIn(have) }
      await download(context.client(), urlOf('saveImages', { query }), output)
    })
}

async function digestsIn(file: string | undefined): Promise<string[]> {
  if (file === undefined) return []
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw new CliError(`${file}: ${reasonOf(error)}`)
  })
  return text.split(/\s+/).filter((word) => word !== '')
}
